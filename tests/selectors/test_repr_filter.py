"""Repr Filter as a selector: the order of visits, and the threshold; and the qualities that it can go by."""

from pathlib import Path

import numpy as np
import pytest
from rows import TOO_LONG, material

from dwbench.contract import Scored, Trial, check_selector
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.selectors.context import Context
from dwbench.selectors.ifd import IFD
from dwbench.selectors.longest_response import LongestResponse
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.perplexity import Perplexity
from dwbench.selectors.picks import pool_vectors
from dwbench.selectors.quality import Quality, min_max, pool_quality, quality_needs
from dwbench.selectors.repr_filter import ReprFilter
from dwbench.store import Bench, Store


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One store for all: losses and vectors are computed once."""
    return Bench(Store(tmp_path_factory.mktemp("store")))


def score(selector: ReprFilter, k: int, lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench) -> Scored:
    return Trial(selector, material(lm, encoder=encoder), models).score_in(bench, selector.needs, k)


def test_min_max() -> None:
    assert min_max(np.array([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]
    assert min_max(np.array([2.0, 2.0])).tolist() == [0, 0]


def test_qualities_are_those_of_the_selectors_named_alike(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench
) -> None:
    def quality(name: Quality) -> dict[str, float]:
        found: list[tuple[np.ndarray, tuple[str, ...]]] = []
        context = Context(quality_needs(name), bench, material(tiny_lm), models)
        bench.stage("test", {"quality": name}, lambda _: found.append(pool_quality(context, name)))
        (values, reasons) = found[0]
        assert [bool(reason) for reason in reasons] == np.isnan(values).tolist()
        return dict(zip([row.id for row in context.pool], values, strict=True))

    def values(selector: Perplexity | IFD | LongestResponse) -> dict[str, float]:
        found = Trial(selector, material(tiny_lm), models).score_in(bench, selector.needs)
        return dict(zip(found.ids, found.scores.values, strict=True))

    low, high, ifd, length = quality("low_loss"), quality("high_loss"), quality("ifd"), quality("length")
    assert np.isnan(low[TOO_LONG])
    assert np.isnan(ifd[TOO_LONG])
    for id, expected in values(Perplexity(which="low")).items():
        np.testing.assert_allclose(low[id], -np.log(expected))
        np.testing.assert_array_equal(high[id], -low[id])
    assert length == values(LongestResponse())
    of_ifd = values(IFD())
    assert any(value > 1 for value in of_ifd.values())
    for id, expected in of_ifd.items():
        np.testing.assert_allclose(ifd[id], 0 if expected > 1 else expected)


@pytest.mark.parametrize("quality", ["low_loss", "length", None])
def test_the_best_that_are_apart(
    quality: Quality | None, tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench
) -> None:
    selector = ReprFilter(quality=quality, tau=0.6)
    found = score(selector, 4, tiny_lm, encoder, models, bench)
    stored: list[np.ndarray] = []
    context = Context(selector.needs, bench, material(tiny_lm, encoder=encoder), models)
    bench.stage("test", {"vectors": str(quality)}, lambda _: stored.append(pool_vectors(context, "full")))
    vectors = dict(zip([row.id for row in context.pool], stored[0], strict=True))
    tau = found.scores.notes["tau_used"]
    assert isinstance(tau, float)
    assert tau >= 0.6
    chosen = found.choose(4, 0)
    values = dict(zip(found.ids, found.scores.values, strict=True))
    assert [values[id] for id in chosen] == sorted((values[id] for id in chosen), reverse=True)
    cosines = [vectors[one] @ vectors[other] for one in chosen for other in chosen if one < other]
    assert max(cosines) <= tau + 1e-6


def test_a_threshold_of_one_is_the_order_itself(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench
) -> None:
    found = score(ReprFilter(quality="length", tau=1.0), 5, tiny_lm, encoder, models, bench)
    longest = Trial(LongestResponse(), material(tiny_lm), models).score_in(bench, LongestResponse().needs)
    lengths = dict(zip(longest.ids, longest.scores.values, strict=True))
    assert [lengths[id] for id in found.choose(5, 0)] == sorted(lengths.values(), reverse=True)[:5]


def test_rows_without_a_quality_come_last(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench, tmp_path: Path
) -> None:
    found = score(ReprFilter(quality="low_loss"), 11, tiny_lm, encoder, models, bench)
    assert set(found.choose(11, 0)) == set(found.ids) - {TOO_LONG}
    assert dict(zip(found.ids, found.scores.reasons, strict=True))[TOO_LONG]


def test_impossible_threshold() -> None:
    with pytest.raises(ValueError, match="tau"):
        ReprFilter(tau=1.1)


@pytest.mark.parametrize("quality", [None, "low_loss", "high_loss", "ifd", "length"])
def test_keeps_the_contract(quality: Quality | None, tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    check_selector(ReprFilter(quality=quality, tau=0.5), material(tiny_lm, encoder=encoder), models)
