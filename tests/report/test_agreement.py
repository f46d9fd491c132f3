"""Agreement of selectors, worked out by hand on made-up records."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from made_records import made

from dwbench.records import Record
from dwbench.report.agreement import agreements, render, spearman


def chose(selector: str, ids: Sequence[str], places: Sequence[float | None] | None, **options: Any) -> Record:
    record = made(selector, rows=2, **options)
    selection: dict[str, Any] = {**record.data["selection"], "ids": list(ids), "places": places}
    return replace(record, data={**record.data, "selection": selection})


def test_spearman_by_hand() -> None:
    one = np.array([1.0, 2, 3, 4])
    assert spearman(one, one) == 1
    assert spearman(one, -one) == -1
    np.testing.assert_allclose(spearman(one, np.array([2.0, 1, 4, 3])), 0.6)
    # A row that one of them can't score does not count, so the rest is ranked anew.
    np.testing.assert_allclose(spearman(one, np.array([2.0, np.nan, 1, 3])), 0.5)
    assert np.isnan(spearman(one, np.array([1.0, np.nan, np.nan, 2])))
    assert np.isnan(spearman(one, np.full(4, 2.5)))


def test_choices_of_one_pool_are_compared_in_pairs() -> None:
    records = [
        chose("random", ["a", "b"], [1, 2, 3, 4]),
        chose("ifd", ["a", "c"], [1, 3, 2, 4]),
        chose("low_ppl", ["c", "d"], [4, 3, 1.5, 1.5]),
        chose("zero_shot", [], None),
    ]
    (found,) = agreements(records)
    assert found.labels == ("random", "ifd", "low_ppl")
    np.testing.assert_allclose(found.overlap, [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]])
    np.testing.assert_allclose(found.spearman[0, :2], [1, 0.8])
    assert found.expected == 2 / 1000
    text = render([found], "md")
    assert "| 2 ifd | 0.80 | 1.00 |" in text
    assert "| 3 low_ppl | 0.00 | 0.50 | 1.00 |" in text
    assert "random ones: 0.00" in text
    assert "1 random" in render([found], "text")


def test_records_without_places_are_left_out() -> None:
    assert agreements([made("random"), made("ifd")]) == []


def test_selections_of_one_label_are_told_apart_and_none_is_dropped() -> None:
    records = [
        chose("ifd", ["a", "b"], [1, 2, 3, 4], scorer="smollm2-135m"),
        chose("ifd", ["a", "c"], [1, 3, 2, 4], scorer="qwen"),
        chose("miwv", ["a", "c"], [1, 3, 2, 4], scorer="smollm2-135m", embedder="bge"),
        chose("miwv", ["c", "d"], [4, 3, 1, 2], scorer="smollm2-135m", embedder="minilm"),
        chose("miwv", ["c", "d"], [4, 3, 1, 2], scorer="smollm2-135m", embedder="minilm", version=2),
    ]
    (found,) = agreements(records)
    assert found.labels == (
        "ifd",
        "ifd by qwen",
        "miwv (selector.version=1, embedder.name=bge)",
        "miwv (selector.version=1, embedder.name=minilm)",
        "miwv (selector.version=2, embedder.name=minilm)",
    )
    assert found.overlap[0, 1] == 0.5


def test_what_happened_after_selecting_makes_no_other_selection() -> None:
    records = [
        chose("ifd", ["a", "b"], [1, 2, 3, 4]),
        chose("ifd", ["a", "b"], [1, 2, 3, 4], rate=1e-5),
        chose("ifd", ["a", "b"], [1, 2, 3, 4], nll_rows=64),
    ]
    assert agreements(records) == []
    # The same settings and another result: something differed that no record tells.
    (found,) = agreements([*records, chose("ifd", ["a", "c"], [1, 3, 2, 4], rate=1e-6)])
    assert all(label.startswith("ifd (run ") for label in found.labels)
    assert len(set(found.labels)) == 2


def test_budgets_and_seeds_are_compared_apart() -> None:
    records = [chose(name, ["a", "b"], [1, 2, 3], seed=seed) for seed in (0, 1) for name in ("random", "ifd")]
    assert [one.title for one in agreements(records)] == [
        f"dialogsum, smollm2-135m: 2 of 1000 rows, seed {seed}" for seed in (0, 1)
    ]
