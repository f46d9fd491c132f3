"""Response losses of the real model against independently computed ones."""

from pathlib import Path

import numpy as np
import pytest
from scoring import golden, with_scorer

from dwbench.models.chat import Pair, cut_response
from dwbench.models.spec import LM
from dwbench.selectors.models import LoadedModels


@pytest.mark.parametrize("case", ["gsm8k", "dialogsum", "bioinstruct"])
def test_token_losses(case: str, shared: Path, smollm2: LM, models: LoadedModels) -> None:
    data = golden(shared, f"resp_nll/case_{case}")
    rows, expected = data["inputs"]["rows"], data["expected"]["rows"]
    end = data["parameters"]["eos_id"]
    pairs = [Pair(tuple(row["context_ids"]), (*row["response_ids"], end)) for row in rows]
    losses, cost = with_scorer(models, smollm2, lambda scorer: scorer.token_nll(pairs))
    for loss, want in zip(losses, expected, strict=True):
        np.testing.assert_allclose(
            loss, [*want["token_nll"], want["eos_nll"]], atol=data["tolerance"]["suggested_abs_per_token"], rtol=0
        )
        close = pytest.approx(want["mean_nll"], abs=data["tolerance"]["suggested_abs_mean"])
        assert loss[:-1].sum() / want["n"] == close
        assert loss.size == want["n_with_eos"]
        assert loss.sum() == pytest.approx(want["sum_nll_with_eos"], abs=loss.size * 5e-5)
    assert cost.forward_tokens == sum(pair.length for pair in pairs)
    assert cost.forward_calls == len(pairs)


def test_a_cut_response_scores_its_first_tokens(shared: Path, smollm2: LM, models: LoadedModels) -> None:
    data = golden(shared, "resp_nll/case_bioinstruct")
    row, want = data["inputs"]["rows"][0], data["expected"]["rows"][0]
    context, m = tuple(row["context_ids"]), want["n"] - 3
    whole = (*row["response_ids"], data["parameters"]["eos_id"])
    pair = Pair(context, cut_response(len(context), whole, len(context) + m))
    losses, _ = with_scorer(models, smollm2, lambda scorer: scorer.token_nll([None, pair]))
    assert losses[0].size == 0
    np.testing.assert_allclose(losses[1], want["token_nll"][:m], atol=2e-4, rtol=0)


def test_the_models_own_loss_agrees(tiny_lm: LM, models: LoadedModels) -> None:
    """Against transformers' own `labels=`, and whatever the batch."""
    import torch

    from dwbench.models.loading import load_model

    pairs = [Pair(tuple(range(5, 5 + n)), tuple(range(90, 90 + m))) for n, m in ((3, 9), (40, 1), (1, 30), (17, 4))]
    found, _ = with_scorer(models, tiny_lm, lambda scorer: scorer.response_nll([*pairs, None]))
    model = load_model(tiny_lm)
    for pair, mean, n in zip(pairs, found.mean, found.tokens, strict=False):
        ids = torch.tensor([[*pair.context, *pair.response]])
        labels = ids.clone()
        labels[0, : len(pair.context)] = -100
        with torch.inference_mode():
            assert mean == pytest.approx(float(model(input_ids=ids, labels=labels).loss), abs=5e-5)
        assert n == len(pair.response)
    assert np.isnan(found.total[-1])
    assert np.isnan(found.mean[-1])
    assert found.tokens[-1] == 0


def test_batch_size_does_not_matter(tiny_lm: LM, models: LoadedModels) -> None:
    import dataclasses

    pairs = [Pair(tuple(range(2, 2 + n)), tuple(range(70, 70 + 2 * n))) for n in (1, 60, 7, 7, 30)]
    per_budget = [
        with_scorer(
            models,
            dataclasses.replace(tiny_lm, token_budget=budget),
            lambda scorer: np.concatenate(scorer.token_nll(pairs)),
        )[0]
        for budget in (1, 150, 100_000)
    ]
    np.testing.assert_allclose(per_budget[1], per_budget[0], atol=1e-5, rtol=0)
    np.testing.assert_allclose(per_budget[2], per_budget[0], atol=1e-5, rtol=0)
