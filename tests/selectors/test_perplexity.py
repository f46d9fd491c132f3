"""Perplexity baselines."""

import dataclasses

import numpy as np
import pytest
from rows import TASK, material, splits
from scoring import with_scorer

from dwbench.contract import Trial, check_selector
from dwbench.models.spec import LM
from dwbench.selectors.losses import Losses
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.perplexity import Perplexity, preference

NAN = float("nan")


def order(ppl: list[float], which: str) -> list[int]:
    preferred = preference(np.array(ppl), which)  # type: ignore[arg-type]
    valid = [row for row in range(len(ppl)) if not np.isnan(preferred[row])]
    return sorted(valid, key=lambda row: -preferred[row])


@pytest.mark.parametrize(("which", "expected"), [("low", [2, 0, 4, 1]), ("high", [1, 4, 0, 2]), ("mid", [0, 4, 2, 1])])
def test_directions(which: str, expected: list[int]) -> None:
    # The median of the valid rows is 4.5.
    assert order([4.0, 90.0, 2.0, NAN, 5.1], which) == expected


def test_nothing_valid() -> None:
    for which in ("low", "mid", "high"):
        assert order([NAN, NAN], which) == []


def test_means_with_and_without_the_end_of_turn() -> None:
    losses = Losses(total=np.array([6.0, 4.0, NAN]), tokens=np.array([3, 2, 0]), end=np.array([2.0, NAN, NAN]))
    np.testing.assert_array_equal(losses.mean(False), [2.0, 2.0, NAN])
    np.testing.assert_array_equal(losses.mean(True), [2.0, 2.0, NAN])
    two = Losses(total=np.array([6.0]), tokens=np.array([3]), end=np.array([0.0]))
    np.testing.assert_array_equal(two.mean(True), [1.5])
    assert [bool(reason) for reason in losses.reasons()] == [False, False, True]


@pytest.mark.parametrize("score_eos", [True, False])
def test_value_is_exp_of_the_mean_loss(score_eos: bool, tiny_lm: LM, models: LoadedModels) -> None:
    data = splits()
    found = Trial(Perplexity(which="low", score_eos=score_eos), material(tiny_lm, data), models).score()
    chat = models.chat(tiny_lm)
    by_id = {row.id: row for row in data.pool}
    pairs = [chat.pair(TASK, by_id[id]) for id in found.ids]
    losses, _ = with_scorer(models, tiny_lm, lambda scorer: scorer.token_nll(pairs))
    for value, loss in zip(found.scores.values, losses, strict=True):
        scored = loss if score_eos else loss[:-1]
        assert value == pytest.approx(np.exp(scored.mean()) if loss.size else NAN, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("score_eos", [True, False])
def test_full_text_is_every_token_but_the_first(score_eos: bool, tiny_lm: LM, models: LoadedModels) -> None:
    """Against transformers' own `labels=`, which shifts the same way."""
    import torch

    from dwbench.models.loading import load_model

    selector = Perplexity(which="high", text="full", score_eos=score_eos)
    found = Trial(selector, material(tiny_lm), models).score()
    chat, model = models.chat(tiny_lm), load_model(tiny_lm)
    by_id = {row.id: row for row in splits().pool}
    for id, value, reason in zip(found.ids, found.scores.values, found.scores.reasons, strict=True):
        pair = chat.pair(TASK, by_id[id])
        assert (reason == "") == (pair is not None)
        if pair is None:
            assert np.isnan(value)
            continue
        ids = torch.tensor([[*pair.context, *(pair.response if score_eos else pair.response[:-1])]])
        with torch.inference_mode():
            assert np.log(value) == pytest.approx(float(model(input_ids=ids, labels=ids).loss), abs=5e-5)


def test_a_cut_response_has_no_end_of_turn_in_its_text(tiny_lm: LM, models: LoadedModels) -> None:
    lengths = {row.id: len(models.chat(tiny_lm).context(TASK, row)) for row in splits().pool}
    lm = dataclasses.replace(tiny_lm, max_length=lengths["11"] + 2)
    with_end, without = (
        Trial(Perplexity(which="low", text="full", score_eos=end), material(lm), models).score()
        for end in (True, False)
    )
    row = with_end.ids.index("11")
    assert with_end.scores.values[row] == without.scores.values[row]
    assert with_end.scores.values[with_end.ids.index("6")] != without.scores.values[with_end.ids.index("6")]


def test_full_text_keeps_the_contract(tiny_lm: LM, models: LoadedModels) -> None:
    check_selector(Perplexity(which="mid", text="full"), material(tiny_lm), models)
