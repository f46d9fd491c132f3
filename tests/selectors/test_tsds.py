"""TSDS: draws by the plan's probabilities, and rows that got none."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rows import examples, material

from dwbench.contract import Scored, Trial, check_selector
from dwbench.data.base import Splits
from dwbench.errors import UserError
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.rules.gumbel import gumbel_keys
from dwbench.rules.transport import transport
from dwbench.seeds import draw
from dwbench.selectors.context import Context
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.tsds import TSDS
from dwbench.store import Bench, Store

N, M = 60, 3


class Known:
    """An embedder that knows texts by the number that they end in."""

    def __init__(self) -> None:
        vectors = np.random.default_rng(0).normal(size=(N + M, 6))
        self.vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], what: str) -> np.ndarray:
        self.texts += texts
        return self.vectors[[int(text.split()[-1]) for text in texts]]


def score(selector: TSDS, lm: LM, encoder: Encoder, known: Known, seed: int = 0) -> Scored:
    rows = examples(tuple((f"Row {n}", f"Answer {n}") for n in range(N + M)))
    data = Splits(pool=rows[:N], target=rows[N:], test=())
    loaded: Any = SimpleNamespace(embedder=lambda encoder, bench: known)
    return Trial(selector, material(lm, data, seed, encoder=encoder), loaded).score()


def test_draws_by_probability_and_fills_by_distance(tiny_lm: LM, encoder: Encoder) -> None:
    known = Known()
    found = score(TSDS(alpha=0.6, c=1.0), tiny_lm, encoder, known)
    rows = np.array([int(id) for id in found.ids])
    expected = transport(known.vectors[:N], known.vectors[N:], 6, 6, 0.75, 0.6, 1.0)
    np.testing.assert_allclose(found.scores.values, expected.probability[rows], atol=1e-9)
    drawn = found.scores.values > 0
    assert 3 < drawn.sum() <= 18
    np.testing.assert_array_equal(found.scores.tier, np.where(drawn, 0, 1))
    keys = gumbel_keys(np.log(found.scores.values[drawn]), draw(found.uids, 0, "select", "tsds", "gumbel")[drawn])
    np.testing.assert_allclose(found.scores.preference[drawn], keys)
    chosen = np.array([int(id) for id in found.choose(N, 0)])
    assert sorted(chosen) == list(range(N))
    rest = expected.distance[chosen[drawn.sum() :]]
    assert (np.diff(rest) >= 0).all()
    assert found.scores.notes["target_rows"] == M
    assert found.scores.notes["rows_with_probability"] == int(drawn.sum())
    assert found.scores.notes["spread"] == pytest.approx(expected.s)


def test_another_seed_is_another_draw(tiny_lm: LM, encoder: Encoder) -> None:
    one, other = (score(TSDS(), tiny_lm, encoder, Known(), seed) for seed in (0, 1))
    np.testing.assert_array_equal(one.scores.values, other.scores.values)
    assert one.choose(N, 0) != other.choose(N, 0)


def test_never_more_than_a_tenth_of_the_pool(tiny_lm: LM, encoder: Encoder) -> None:
    whole = score(TSDS(), tiny_lm, encoder, Known())
    capped = score(TSDS(neighbours=6, kde_neighbours=6), tiny_lm, encoder, Known())
    np.testing.assert_array_equal(whole.scores.values, capped.scores.values)
    fewer = score(TSDS(neighbours=1), tiny_lm, encoder, Known())
    assert fewer.scores.notes["rows_with_probability"] <= M


@pytest.mark.parametrize("text", ["full", "instruction"])
def test_texts(text: str, tiny_lm: LM, encoder: Encoder) -> None:
    known = Known()
    score(TSDS(text=text), tiny_lm, encoder, known)
    assert ("Row 7\nAnswer 7" if text == "full" else "Row 7") in known.texts
    assert ("Row 61\nAnswer 61" if text == "full" else "Row 61") in known.texts


def test_without_target_set(tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path) -> None:
    data = Splits(pool=examples((("a", "b"),)), target=(), test=())
    context = Context(TSDS().needs, Bench(Store(tmp_path)), material(tiny_lm, data, encoder=encoder), models)
    with pytest.raises(UserError, match=r"the target set is empty: set dataset\.target_rows"):
        TSDS().check(context)


@pytest.mark.parametrize(
    "settings", [{"alpha": 1.1}, {"alpha": -0.1}, {"c": 0}, {"sigma": 0}, {"neighbours": 0}, {"kde_neighbours": 0}]
)
def test_settings_that_mean_nothing(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))}: must be"):
        TSDS(**settings)


def test_keeps_the_contract(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    check_selector(TSDS(), material(tiny_lm, encoder=encoder), models)


def test_a_pool_of_one_row(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    rows = examples((("The pool opens late.", "Pool late"), ("It rains.", "Rain")))
    given = material(tiny_lm, Splits(pool=rows[:1], target=rows[1:], test=()), encoder=encoder)
    assert Trial(TSDS(), given, models).score().scores.values.tolist() == [1]
