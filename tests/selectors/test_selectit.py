"""SelectIT: its scores by hand, the ratings' logits by plain passes, and rows that do not fit."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from rows import TASK, TOO_LONG, examples, material

from dwbench.contract import Trial, check_selector
from dwbench.data.base import Splits
from dwbench.errors import UserError
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations.ratings import softmax
from dwbench.selectors.context import Context
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.selectit import NO_ROOM, QUESTIONS, SelectIT, sentence_scores, token_scores
from dwbench.store import Bench, Store


def test_token_scores_by_hand() -> None:
    found = token_scores(np.array([[0.1, 0.1, 0.1, 0.1, 0.6], [0.2] * 5, [0, 0, 1, 0, 0], [0.4, 0.4, 0.2, 0, 0]]))
    np.testing.assert_allclose(found, [5 * 0.5, 0, 3, 1 * (0 + 0.2 + 0.4 + 0.4) / 4], atol=1e-12)
    assert np.isnan(token_scores(np.full(5, np.nan)))


def test_sentence_scores_by_hand() -> None:
    found = sentence_scores(np.array([[1.0, 3], [2, 2], [0, np.nan]]), 0.2)
    np.testing.assert_allclose(found, [2 / 1.2, 2, np.nan])
    np.testing.assert_allclose(sentence_scores(np.array([1.0, 3]), 0), 2)


def test_the_published_softmax_leaves_a_sure_rating_hardly_above_the_others() -> None:
    sure = np.array([0, 0, 0, 0, 50.0])
    assert token_scores(softmax(sure)) == pytest.approx(5)
    assert token_scores(softmax(softmax(sure))) == pytest.approx(5 * (np.e - 1) / (np.e + 4))


def direct_logits(lm: LM, models: LoadedModels, rows: tuple[tuple[str, str], ...]) -> np.ndarray:
    """[rows, questions, ratings] by plain passes."""
    import torch

    model, chat = load_model(lm), models.chat(lm)
    tokens = [chat.tokenizer.convert_tokens_to_ids(str(number)) for number in range(1, 6)]
    found = []
    for row in examples(rows):
        instruction = "You write one line.\n\n" + TASK.turns(row)[-1][1]
        for question in QUESTIONS:
            text = question.replace("{response}", row.response).replace("{instruction}", instruction)
            ids = chat.ids(chat.text([("user", text)]))
            with torch.inference_mode():
                found.append(model(input_ids=torch.tensor([ids])).logits[0, -1, tokens].double().numpy())
    return np.array(found).reshape(len(rows), 5, 5)


ROWS = (
    ("The pool opens late.", "Pool late"),
    ("word " * 600, "Words"),
    ("Das Café öffnet 🎉", "Café öffnet"),
    ("Is it {late}?", "Yes\n\nit is"),
)


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_scores_of_the_rows_themselves(variant: str, tiny_lm: LM, models: LoadedModels) -> None:
    """Also of those behind one that can't be scored."""
    found = Trial(
        SelectIT(variant=variant, alpha=0.3), material(tiny_lm, Splits(pool=examples(ROWS), target=(), test=())), models
    ).score()
    values = dict(zip(found.ids, found.scores.values, strict=True))
    assert np.isnan(values["1"])
    probabilities = softmax(direct_logits(tiny_lm, models, (ROWS[0], *ROWS[2:])))
    if variant == "reference":
        probabilities = softmax(probabilities)
    expected = sentence_scores(token_scores(probabilities), 0.3)
    np.testing.assert_allclose([values[id] for id in "023"], expected, atol=1e-5)
    assert found.choose(1, 0) == ["023"[int(np.argmax(expected))]]


def test_a_row_that_does_not_fit_is_invalid(tiny_lm: LM, models: LoadedModels) -> None:
    found = Trial(SelectIT(), material(tiny_lm), models).score()
    reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
    assert {id: reason for id, reason in reasons.items() if reason} == {TOO_LONG: NO_ROOM}


def test_variants_share_the_ratings(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path))
    for selector in (SelectIT(), SelectIT(variant="reference", alpha=0.5)):
        Trial(selector, material(tiny_lm), models).score_in(bench, selector.needs)
    (stored,) = (tmp_path / "represent").glob("*/arrays.npz")
    assert np.load(stored)["logits"].shape == (12, 5, 5)


def test_earlier_turns_are_a_part_of_the_instruction(tiny_lm: LM, models: LoadedModels) -> None:
    row = examples((("Now?", "Yes"),))[0]
    with_history = dataclasses.replace(row, history=(("user", "Hello"), ("assistant", "Hi")))
    values = [
        Trial(SelectIT(), material(tiny_lm, Splits(pool=(one,), target=(), test=())), models).score().scores.values[0]
        for one in (row, with_history)
    ]
    assert abs(values[0] - values[1]) > 1e-4


def test_a_scorer_that_can_rate_no_row_is_refused_beforehand(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    selector, bench = SelectIT(), Bench(Store(tmp_path))
    selector.check(Context(selector.needs, bench, material(tiny_lm), models))
    short = material(dataclasses.replace(tiny_lm, max_length=60))
    with pytest.raises(UserError, match=r"selector selectit: no row of the pool fits .* max_length 60: raise it"):
        selector.check(Context(selector.needs, bench, short, models))


def test_settings_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match="alpha: must be at least 0"):
        SelectIT(alpha=-1)


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_keeps_the_contract(variant: str, tiny_lm: LM, models: LoadedModels) -> None:
    check_selector(SelectIT(variant=variant), material(tiny_lm), models)
