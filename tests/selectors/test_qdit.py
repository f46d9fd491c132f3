"""QDIT as a selector: its two extremes, its scales, and both terms of what was chosen."""

from typing import Any

import numpy as np
import pytest
from rows import TOO_LONG, material

from dwbench.contract import Scored, Trial, check_selector
from dwbench.models.encoder import Encoder
from dwbench.models.spec import LM
from dwbench.selectors.facility_location import FacilityLocation
from dwbench.selectors.longest_response import LongestResponse
from dwbench.selectors.models import LoadedModels
from dwbench.selectors.qdit import QDIT
from dwbench.store import Bench, Store


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Store(tmp_path_factory.mktemp("store")))


def score(selector: Any, k: int, lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench) -> Scored:
    return Trial(selector, material(lm, encoder=encoder), models).score_in(bench, selector.needs, k)


def test_extremes(tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench) -> None:
    cover = score(FacilityLocation(), 5, tiny_lm, encoder, models, bench)
    for scale in ("n", "first_gain"):
        selector = QDIT(quality="length", alpha=0, scale=scale)  # type: ignore[arg-type]
        found = score(selector, 5, tiny_lm, encoder, models, bench)
        assert found.choose(5, 0) == cover.choose(5, 0)
        assert found.scores.notes["coverage"] == pytest.approx(cover.scores.notes["coverage"])
    best = score(QDIT(quality="length", alpha=1), 5, tiny_lm, encoder, models, bench)
    longest = score(LongestResponse(), 5, tiny_lm, encoder, models, bench)
    lengths = dict(zip(longest.ids, longest.scores.values, strict=True))
    assert [lengths[id] for id in best.choose(5, 0)] == sorted(lengths.values(), reverse=True)[:5]
    scaled = (np.array(sorted(lengths.values())[-5:]) - min(lengths.values())) / np.ptp(list(lengths.values()))
    assert best.scores.notes["quality_mean"] == pytest.approx(scaled.mean())


def test_alpha_trades_one_for_the_other(tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench) -> None:
    found = [
        score(QDIT(quality="length", alpha=alpha, scale="first_gain"), 4, tiny_lm, encoder, models, bench).scores.notes
        for alpha in (0.0, 0.5, 1.0)
    ]
    coverage, quality = ([float(notes[name]) for notes in found] for name in ("coverage", "quality_mean"))
    assert coverage == sorted(coverage, reverse=True)
    assert quality == sorted(quality)
    assert coverage[0] > coverage[-1]
    assert quality[0] < quality[-1]


@pytest.mark.parametrize("scale", ["n", "first_gain"])
def test_values_are_what_each_row_adds(
    scale: Any, tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench
) -> None:
    """Coverage counts once over all rows, or as a multiple of what the best row alone covers."""
    found = score(QDIT(quality="low_loss", alpha=0.4, scale=scale), 4, tiny_lm, encoder, models, bench)
    notes = found.scores.notes
    unit = 1.0
    if scale == "first_gain":
        # The row without a quality is no candidate.
        everyone = score(QDIT(quality="low_loss", alpha=0), 1, tiny_lm, encoder, models, bench)
        unit = float(everyone.scores.notes["coverage"])
    expected = 0.6 * float(notes["coverage"]) / unit + 0.4 * 4 * float(notes["quality_mean"])
    assert np.nansum(found.scores.values) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(found.scores.values).sum() == 4


def test_rows_without_a_quality_come_last(tiny_lm: LM, encoder: Encoder, models: LoadedModels, bench: Bench) -> None:
    found = score(QDIT(), 11, tiny_lm, encoder, models, bench)
    assert set(found.choose(11, 0)) == set(found.ids) - {TOO_LONG}
    trial = Trial(QDIT(), material(tiny_lm, encoder=encoder), models)
    barred = frozenset(found.ids) - {TOO_LONG}
    assert len(trial.score_in(bench, QDIT().needs, 2, barred).choose(2, 0)) == 2  # nothing to choose from


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_impossible_weight(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        QDIT(alpha=alpha)


@pytest.mark.parametrize("settings", [{}, {"quality": "length", "scale": "first_gain", "text": "full"}])
def test_keeps_the_contract(settings: dict[str, Any], tiny_lm: LM, encoder: Encoder, models: LoadedModels) -> None:
    check_selector(QDIT(**settings), material(tiny_lm, encoder=encoder), models)
