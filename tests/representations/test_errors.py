"""EL2N and margins of response tokens: by hand, in double precision, and the real model's golden values."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scoring import golden, with_scorer

from dwbench.models.chat import Pair
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations.errors import token_errors
from dwbench.selectors.models import LoadedModels


def test_errors_by_hand() -> None:
    import torch

    # Equal probabilities; a right and a wrong answer that the model is sure of; (.5, .3, .2).
    two = torch.tensor([[0.0, 0.0], [200.0, 0.0], [0.0, 200.0]])
    el2n, margin = token_errors(two, torch.tensor([0, 0, 0])).numpy()
    np.testing.assert_allclose(el2n, [np.sqrt(0.5), 0, np.sqrt(2)], rtol=1e-6)
    np.testing.assert_allclose(margin, [0, 1, -1], atol=1e-6)
    three = torch.tensor([[0.5, 0.3, 0.2]] * 2).log() + torch.tensor([[7.0], [-300.0]])
    el2n, margin = token_errors(three, torch.tensor([0, 2])).numpy()
    np.testing.assert_allclose(el2n, [np.sqrt(0.25 + 0.09 + 0.04), np.sqrt(0.25 + 0.09 + 0.64)], rtol=1e-5)
    np.testing.assert_allclose(margin, [0.2, -0.3], atol=1e-5)


def test_float32_is_enough_for_a_large_vocabulary() -> None:
    """Also where the model is all but sure: sqrt(sum p^2 - 2 p_y + 1) would be off by 3e-4 there."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        logits = torch.randn(100, 50_000) * torch.linspace(0.1, 12, 100)[:, None] + 20
        logits[50:, 7] += torch.linspace(20, 40, 50)
    tokens = torch.where(torch.arange(100) < 50, logits.argmin(dim=1), torch.tensor(7))
    p = torch.softmax(logits.double(), dim=1)
    own = p.gather(1, tokens[:, None])[:, 0]
    error = p.clone()
    error[torch.arange(100), tokens] -= 1
    others = p.scatter(1, tokens[:, None], 0.0)
    exact = torch.stack([error.norm(dim=1), own - others.amax(dim=1)])
    np.testing.assert_allclose(token_errors(logits, tokens), exact, atol=1e-6)


def test_batches_do_not_matter_and_responses_alone_count(tiny_lm: LM, models: LoadedModels) -> None:
    """Against one plain forward pass a pair."""
    import torch

    rng = np.random.default_rng(3)
    pairs = [
        Pair(tuple(rng.integers(5, 900, n).tolist()), tuple(rng.integers(5, 900, m).tolist()))
        for n, m in ((3, 9), (40, 1), (1, 30), (17, 4), (17, 4))
    ]
    model = load_model(tiny_lm)
    for budget in (1, 90, 100_000):
        lm = dataclasses.replace(tiny_lm, token_budget=budget)
        found, cost = with_scorer(models, lm, lambda scorer: scorer.response_errors(pairs))
        assert (cost.forward_calls, cost.forward_tokens) == (5, sum(pair.length for pair in pairs))
        for pair, errors in zip(pairs, found, strict=True):
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([[*pair.context, *pair.response]])).logits[0].double()
            p = torch.softmax(logits[len(pair.context) - 1 : -1], dim=1).numpy()
            assert errors.el2n.shape == (len(pair.response),)
            for t, token in enumerate(pair.response):
                onehot = np.arange(p.shape[1]) == token
                assert errors.el2n[t] == pytest.approx(np.linalg.norm(p[t] - onehot), abs=1e-5)
                assert errors.margin[t] == pytest.approx(p[t, token] - p[t, ~onehot].max(), abs=1e-5)
    assert with_scorer(models, tiny_lm, lambda scorer: scorer.response_errors([]))[0] == []


def test_golden_errors(shared: Path, smollm2: LM, models: LoadedModels) -> None:
    data = golden(shared, "el2n_grand/case_main")
    # The shorter ones; all ten agree.
    rows, expected = (data[part]["rows"][2:7] for part in ("inputs", "expected"))
    pairs = [Pair(tuple(row["context_ids"]), tuple(row["response_ids_with_eos"])) for row in rows]
    found, _ = with_scorer(models, smollm2, lambda scorer: scorer.response_errors(pairs))
    close = data["tolerance"]["suggested_abs_el2n"]
    for errors, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(errors.el2n, want["el2n_per_token"], atol=2 * close, rtol=0)
        assert errors.el2n.mean() == pytest.approx(want["el2n"], abs=close)
        assert errors.el2n.size == want["n"]
        assert (np.abs(errors.margin) <= 1).all()
