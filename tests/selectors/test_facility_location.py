"""Facility location as a selector: its methods, its kernels, and the hybrid."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TOO_LONG, material

from dwbench.config import build_run, compose, selector_named
from dwbench.contract import Trial, check_selector
from dwbench.data.base import Splits
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.selectors.base import versions
from dwbench.selectors.context import Context
from dwbench.selectors.facility_location import FacilityLocation, most_preferred
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.picks import pool_vectors
from dwbench.selectors.uncertainty import Uncertainty
from dwbench.store import Bench, Store

MARGIN = Uncertainty(measure="min_margin", source="gold")


def similarity_of(lm: LM, encoder: Encoder, models: LoadedModels, folder: Path) -> tuple[list[str], np.ndarray]:
    """Ids, and the cosines of the prompts' embeddings, negative ones 0."""
    found: list[np.ndarray] = []
    bench = Bench(Store(folder))
    context = Context(FacilityLocation().needs, bench, material(lm, encoder=encoder), models)
    bench.stage("test", {}, lambda _: found.append(pool_vectors(context, "instruction")))
    return [row.id for row in context.pool], np.maximum(found[0].astype(np.float64) @ found[0].T, 0)


def is_greedy(similarity: np.ndarray, candidates: list[int], picks: list[int]) -> bool:
    """Whether each pick covers the candidates best, but for the rounding of single precision."""
    for turn in range(len(picks)):
        left = [row for row in candidates if row not in picks[:turn]]
        covers = {row: similarity[np.ix_([*picks[:turn], row], candidates)].max(axis=0).sum() for row in left}
        if covers.get(picks[turn], 0.0) < max(covers.values()) - 1e-6:
            return False
    return True


@pytest.mark.parametrize("method", ["exact", "sparse"])
def test_what_stands_for_the_pool(
    method: Any, tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path
) -> None:
    ids, similarity = similarity_of(tiny_lm, encoder, models, tmp_path)
    found = Trial(FacilityLocation(method=method), material(tiny_lm, encoder=encoder), models).score(4)
    picks = [ids.index(one) for one in found.choose(4, 0)]
    assert is_greedy(similarity, list(range(12)), picks)
    assert not is_greedy(similarity, list(range(12)), picks[::-1])
    assert found.scores.notes["coverage"] == pytest.approx(similarity[picks].max(axis=0).mean(), rel=1e-5)
    values = dict(zip(found.ids, found.scores.values, strict=True))
    assert values[ids[picks[0]]] == pytest.approx(similarity[picks[0]].sum(), rel=1e-5)


def test_barred_rows_neither_stand_nor_are_stood_for(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path
) -> None:
    ids, similarity = similarity_of(tiny_lm, encoder, models, tmp_path)
    barred = frozenset(ids[:5])
    found = Trial(FacilityLocation(), material(tiny_lm, encoder=encoder), models).score(4, barred=barred)
    assert is_greedy(similarity, list(range(5, 12)), [ids.index(one) for one in found.choose(4, 0)])
    assert found.scores.notes["rows_to_stand_for"] == 7


def test_kernels_and_methods_choose_their_own(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    def chosen(**settings: Any) -> list[str]:
        return Trial(FacilityLocation(**settings), material(tiny_lm, encoder=encoder), models).score(5).choose(5, 0)

    assert chosen() != chosen(text="full")
    assert chosen(similarity="rbf") != chosen()
    assert set(chosen(method="stochastic", epsilon=1e-9)) == set(chosen())
    assert chosen(method="sparse", neighbours=1) != chosen()


def test_the_most_preferred() -> None:
    nan = float("nan")
    found = most_preferred(np.array([0.5, nan, 0.9, 0.5, 0.1]), 2)
    assert found.tolist() == [True, False, True, False, False]
    assert most_preferred(np.array([nan, 1.0]), 2).tolist() == [False, True]


def test_the_hybrid_stands_for_the_uncertain_share(
    tiny_lm: LM, encoder: Encoder, models: LoadedModels, tmp_path: Path
) -> None:
    given = material(tiny_lm, encoder=encoder)
    ids, similarity = similarity_of(tiny_lm, encoder, models, tmp_path)
    uncertain = Trial(MARGIN, given, models).score()
    most = uncertain.choose(6, 0)
    selector = FacilityLocation(prefilter=MARGIN, prefilter_share=0.5)
    found = Trial(selector, given, models).score(3)
    share = sorted(ids.index(id) for id in most)
    assert is_greedy(similarity, share, [ids.index(one) for one in found.choose(3, 0)])
    assert set(found.choose(6, 0)) == set(most)
    assert found.scores.notes["rows_to_stand_for"] == 6
    # The share is never smaller than k, and a row without an uncertainty comes last.
    whole = Trial(selector, given, models).score(11)
    assert TOO_LONG not in whole.choose(11, 0)
    assert dict(zip(whole.ids, whole.scores.reasons, strict=True))[TOO_LONG]


def test_the_hybrid_is_configured() -> None:
    selector, label = selector_named("facility_location_hybrid", {"prefilter_share": 0.3})
    assert isinstance(selector, FacilityLocation)
    assert selector.prefilter == Uncertainty(measure="min_margin")
    assert label == "facility_location_hybrid(prefilter_share=0.3)"
    assert selector.needs == {"responses", "embedder", "task", "scorer"}
    plain, _ = selector_named("facility_location", {})
    assert plain.needs == {"responses", "embedder"}
    said = ["selector=facility_location_hybrid", "selector.prefilter.measure=mean_entropy"]
    composed = build_run(compose(said)).selector
    assert isinstance(composed, FacilityLocation)
    assert composed.prefilter == Uncertainty(measure="mean_entropy")


@pytest.mark.parametrize(
    "settings",
    [
        {"epsilon": 0.0, "method": "stochastic"},
        {"epsilon": 1.0, "method": "stochastic"},
        {"epsilon": 0.1},
        {"epsilon": 0.1, "method": "sparse"},
        {"neighbours": 0, "method": "sparse"},
        {"neighbours": 9},
        {"prefilter_share": 0.0, "prefilter": MARGIN},
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, Any]) -> None:
    (name, _), *_ = settings.items()
    with pytest.raises(ValueError, match=name):
        FacilityLocation(**settings)


def test_a_share_without_a_prefilter_is_refused() -> None:
    with pytest.raises(ValueError, match="prefilter_share: nothing is filtered"):
        FacilityLocation(prefilter_share=0.5)


@pytest.mark.parametrize(
    "selector",
    [
        FacilityLocation(),
        FacilityLocation(similarity="rbf", text="full"),
        FacilityLocation(method="stochastic", epsilon=0.3),
        FacilityLocation(method="sparse", neighbours=4),
        FacilityLocation(prefilter=MARGIN, prefilter_share=0.5),
    ],
    ids=["default", "rbf", "stochastic", "sparse", "hybrid"],
)
def test_keeps_the_contract(selector: FacilityLocation, tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    check_selector(selector, material(tiny_lm, encoder=encoder), models)


def test_one_row(tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    pool = material(tiny_lm).splits.pool[:1]
    given = material(tiny_lm, Splits(pool=pool, target=(), test=()), encoder=encoder)
    for method in ("exact", "stochastic", "sparse"):
        for similarity in ("cosine", "rbf"):
            selector = FacilityLocation(method=method, similarity=similarity)  # type: ignore[arg-type]
            assert Trial(selector, given, models).score(1).choose(1, 0) == ["0"]


def test_a_prefilter_s_version_is_part_of_the_whole() -> None:
    assert versions(FacilityLocation(prefilter=MARGIN)) == [FacilityLocation.version, Uncertainty.version]
