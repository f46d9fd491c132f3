"""Ratings read off the next token: their tokens, logits in any batching, and what does not fit."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scoring import with_scorer

from dwbench.errors import UserError
from dwbench.models.flop import Shape
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations.ratings import (
    expected_ratings,
    rating_logits,
    rating_question,
    rating_tokens,
    softmax,
)
from dwbench.selectors.models import LoadedModels

PROMPTS = [tuple(range(3, 3 + n)) for n in (1, 60, 7, 7, 200)]
WANTED = (40, 5, 17)


def last_logits(lm: LM, prompts: list[tuple[int, ...]]) -> np.ndarray:
    """transformers' own logits behind every prompt, [prompts, vocabulary]."""
    import torch

    model = load_model(lm)
    with torch.inference_mode():
        return np.array([model(input_ids=torch.tensor([prompt])).logits[0, -1].numpy() for prompt in prompts])


def test_logits_in_any_batching_and_their_cost(tiny_lm: LM, models: LoadedModels) -> None:
    expected = last_logits(tiny_lm, PROMPTS)[:, WANTED]
    shape = Shape.of(load_model(tiny_lm))
    for token_budget in (1, 150, 100_000):
        lm = dataclasses.replace(tiny_lm, token_budget=token_budget)
        found, cost = with_scorer(models, lm, lambda scorer: scorer.next_token_logits(PROMPTS, WANTED))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
        lengths = [len(prompt) + 1 for prompt in PROMPTS]
        assert cost.forward_tokens == sum(lengths)
        assert cost.forward_calls == len(PROMPTS)
        assert cost.flop == pytest.approx(shape.forward(lengths, len(PROMPTS)))
    none, cost = with_scorer(models, tiny_lm, lambda scorer: scorer.next_token_logits([], WANTED))
    assert none.shape == (0, 3)
    assert cost.flop == 0


def test_tokens_of_the_ratings(tiny_lm: LM, models: LoadedModels) -> None:
    chat = models.chat(tiny_lm)
    lead, tokens = rating_tokens(chat, 6)
    assert lead == ()
    assert [chat.tokenizer.decode([token]) for token in tokens] == ["1", "2", "3", "4", "5", "6"]


def writing(**ids: tuple[int, ...]) -> Any:
    """A chat whose tokenizer writes the numbers so."""
    known = {name.removeprefix("n"): written for name, written in ids.items()}
    return SimpleNamespace(ids=known.__getitem__, tokenizer=SimpleNamespace(name_or_path="some/model"))


def test_a_space_in_front_is_a_lead() -> None:
    """As SentencePiece writes digits."""
    found = rating_tokens(writing(n1=(9, 11), n2=(9, 12), n3=(9, 13)), 3)
    assert found.lead == (9,)
    assert found.tokens == (11, 12, 13)


@pytest.mark.parametrize(
    "ids",
    [
        {"n1": (1,), "n2": (2, 3)},
        {"n1": (8, 1), "n2": (9, 2)},
        {"n1": (0,), "n2": (0,)},
    ],
)
def test_ratings_of_several_tokens_are_refused(ids: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(UserError, match=r"model some/model: .* ratings 1 to 2 as one token .* scorer_model"):
        rating_tokens(writing(**ids), 2)


def test_questions_that_do_not_fit_are_not_rated(tiny_lm: LM, models: LoadedModels) -> None:
    questions = ["word " * 600, "How good is this?", "Why?"]
    chat = models.chat(tiny_lm)
    prompts = [chat.ids(chat.text([("user", question)])) for question in questions[1:]]
    _, tokens = rating_tokens(chat, 5)
    expected = last_logits(tiny_lm, prompts)[:, tokens]
    found, _ = with_scorer(models, tiny_lm, lambda scorer: rating_logits(scorer, questions, 5))
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1:], expected, atol=1e-5, rtol=0)
    # The longest that fits has room for the rating and no more.
    for max_length, fits in ((len(prompts[0]) + 1, True), (len(prompts[0]), False)):
        lm = dataclasses.replace(tiny_lm, max_length=max_length)
        found, _ = with_scorer(models, lm, lambda scorer: rating_logits(scorer, questions[1:2], 5))
        assert np.isfinite(found).all() == fits
    none, _ = with_scorer(models, tiny_lm, lambda scorer: rating_logits(scorer, [], 5))
    assert none.shape == (0, 5)


def test_expected_ratings_by_hand() -> None:
    logits = np.log([[1, 1, 1, 1, 1, 1], [0.5, 0.3, 0.1, 0.1, 1e-30, 1e-30]]) + 700
    np.testing.assert_allclose(expected_ratings(logits), [3.5, 1.8])
    np.testing.assert_allclose(softmax(logits)[1], [0.5, 0.3, 0.1, 0.1, 0, 0], atol=1e-12)
    assert np.isnan(expected_ratings(np.full((2, 6), np.nan))).all()


def test_texts_with_braces_are_left_alone() -> None:
    found = rating_question("{instruction} | {response} | {other}", "a {response} {", "b {instruction} \\1")
    assert found == "a {response} { | b {instruction} \\1 | {other}"
