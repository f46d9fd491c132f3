"""Selectors beside themselves under other seeds, worked out by hand on made-up records."""

from dataclasses import replace
from typing import Any

import numpy as np
from made_records import made

from dwbench.records import Record
from dwbench.report.steadiness import render, steadiness


def chose(selector: str, seed: int, ids: list[str], places: list[float | None] | None, **options: Any) -> Record:
    record = made(selector, rows=len(ids), seed=seed, **options)
    selection: dict[str, Any] = {**record.data["selection"], "ids": ids, "places": places}
    return replace(record, data={**record.data, "selection": selection})


def test_pairs_of_seeds_are_averaged() -> None:
    records = [
        chose("data_whisperer", 0, ["a", "b"], [1, 2, 3, 4]),
        chose("data_whisperer", 1, ["a", "c"], [1, 3, 2, 4]),
        chose("data_whisperer", 2, ["c", "d"], [4, 3, 2, 1]),
        chose("random", 0, ["a", "b"], [1, 2, 3, 4]),
        chose("random", 1, ["a", "b"], [1, 2, None, None]),
        chose("ifd", 0, ["a", "b"], [1, 2, 3, 4]),
    ]
    (found,) = steadiness(records)
    assert (found.labels, found.seeds) == (("data_whisperer", "random"), (3, 2))
    # Correlations .8, -1 and -.8; overlaps a half, none, a half.
    np.testing.assert_allclose(found.spearman, [-1 / 3, np.nan], atol=1e-12)
    np.testing.assert_allclose(found.overlap, [1 / 3, 1])
    assert found.expected == 2 / 1000
    text = render([found], "md")
    assert "| data_whisperer | 3 | -0.33 | 0.33 |" in text
    assert "| random | 2 | - | 1.00 |" in text
    assert "random choices: 0.00" in text


def test_other_budgets_and_settings_are_others() -> None:
    records = [
        chose("ifd", 0, ["a", "b"], [1, 2, 3, 4]),
        chose("ifd", 1, ["a"], [1, 2, 3, 4]),
        chose("miwv", 0, ["a", "b"], [1, 2, 3, 4], version=1),
        chose("miwv", 1, ["a", "b"], [1, 2, 3, 4], version=2),
    ]
    assert steadiness(records) == []


def test_what_happened_after_selecting_counts_once() -> None:
    records = [
        chose("ifd", 0, ["a", "b"], [1, 2, 3, 4]),
        chose("ifd", 0, ["a", "b"], [1, 2, 3, 4], rate=1e-5),
        chose("ifd", 1, ["a", "c"], [1, 3, 2, 4]),
    ]
    (found,) = steadiness(records)
    assert found.seeds == (2,)
    np.testing.assert_allclose(found.overlap, [0.5])
    np.testing.assert_allclose(found.spearman, [0.8])
