"""DSIR: rows that speak as the target set does, resampled or best first."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import examples, material

from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Splits
from dwbench.errors import UserError
from dwbench.models.spec import LM
from dwbench.rules.gumbel import gumbel_keys
from dwbench.rules.importance import hashed_ngrams, log_importance
from dwbench.seeds import draw
from dwbench.selectors.context import Context
from dwbench.selectors.dsir import DSIR
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store

POOL = tuple(
    (f"The {thing} is {state} today.", f"{thing} {state}".capitalize())
    for thing in ("ferry", "bank", "pool", "school")
    for state in ("open", "closed", "late", "full", "quiet")
)
TARGET = (("Why does the ferry wait?", "The ferry is late"), ("Which ferry is late?", "The late ferry"))


def score(lm: LM, models: LoadedModels, selector: DSIR, seed: int = 0) -> Scored:
    data = Splits(pool=examples(POOL), target=examples(TARGET), test=())
    return Trial(selector, material(lm, data, seed), models).score()


@pytest.mark.parametrize("text", ["full", "instruction"])
def test_weights_of_the_texts(text: str, tiny_lm: LM, models: LoadedModels) -> None:
    found = score(tiny_lm, models, DSIR(text=text, rule="top_k", target_laplace_smoothing=0.5, buckets=300))

    def ngrams(rows: tuple[tuple[str, str], ...]) -> list[np.ndarray]:
        return [hashed_ngrams(question if text == "instruction" else f"{question}\n{a}", 300) for question, a in rows]

    expected = log_importance(ngrams(POOL), ngrams(TARGET), 300, 0.5)
    np.testing.assert_allclose(found.scores.values, expected[[int(id) for id in found.ids]], rtol=1e-12)
    np.testing.assert_array_equal(found.scores.preference, found.scores.values)
    assert found.scores.notes == {"target_rows": 2}


def test_what_speaks_of_the_targets_subject_comes_first(tiny_lm: LM, models: LoadedModels) -> None:
    chosen = score(tiny_lm, models, DSIR(rule="top_k", target_laplace_smoothing=0.001)).choose(20, 0)
    assert chosen[0] == "2"  # the ferry, late
    assert {int(id) for id in chosen[:8]} == {0, 1, 2, 3, 4, 7, 12, 17}


def test_resampled_by_content_and_seed(tiny_lm: LM, models: LoadedModels) -> None:
    found = [score(tiny_lm, models, DSIR(), seed) for seed in (0, 1)]
    for seed, one in enumerate(found):
        keys = gumbel_keys(one.scores.values, draw(one.uids, seed, "select", "dsir", "gumbel"))
        np.testing.assert_array_equal(one.scores.preference, keys)
    assert found[0].choose(20, 0) != found[1].choose(20, 0)
    np.testing.assert_array_equal(found[0].scores.values, found[1].scores.values)


def test_a_row_without_words_has_a_score(tiny_lm: LM, models: LoadedModels) -> None:
    data = Splits(pool=examples((("", ""), *POOL[:3])), target=examples(TARGET), test=())
    found = Trial(DSIR(rule="top_k"), material(tiny_lm, data), models).score()
    assert dict(zip(found.ids, found.scores.values, strict=True))["0"] == 0


def test_without_target_set(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    data = Splits(pool=examples(POOL), target=(), test=())
    context = Context(DSIR().needs, Bench(Store(tmp_path)), material(tiny_lm, data), models)
    with pytest.raises(UserError, match=r"the target set is empty: set dataset\.target_rows"):
        DSIR().check(context)


@pytest.mark.parametrize(
    ("settings", "message"), [({"target_laplace_smoothing": -0.1}, "at least 0"), ({"buckets": 0}, "at least 1")]
)
def test_settings_that_mean_nothing(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))}: must be {message}"):
        DSIR(**settings)


@pytest.mark.parametrize("selector", [DSIR(), DSIR(rule="top_k", text="instruction")])
def test_keeps_the_contract(selector: DSIR, tiny_lm: LM, models: LoadedModels) -> None:
    check_selector(selector, material(tiny_lm), models)
    check_selector(selector, dataclasses.replace(material(tiny_lm), seed=3), models)
