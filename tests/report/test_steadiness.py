"""Selectors beside themselves under other seeds, worked out by hand on made-up records."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_records import made

from dwbench.cli import main
from dwbench.records import Record, write_record
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
        chose("low_ppl", 0, ["a", "b"], [1, 2, 3, 4]),
        chose("low_ppl", 1, ["a", "b"], [1, 2, 3, 4]),
        chose("low_ppl", 2, ["a", "b"], [1, 2, None, None]),
        chose("ifd", 0, ["a", "b"], [1, 2, 3, 4]),
    ]
    (found,) = steadiness(records)
    assert (found.labels, found.seeds) == (("data_whisperer", "random", "low_ppl"), (3, 2, 3))
    # Correlations .8, -1 and -.8; overlaps a half, none, a half.
    np.testing.assert_allclose(found.spearman, [-1 / 3, np.nan, 1], atol=1e-12)
    np.testing.assert_allclose(found.overlap, [1 / 3, 1, 1])
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


def test_budgets_and_pools_have_a_table_each() -> None:
    records = [
        chose("ifd", seed, ids, [1, 2, 3, 4], dataset=dataset)
        for dataset in ("dialogsum", "gsm8k")
        for seed in (0, 1)
        for ids in (["a"], ["a", "b"])
    ]
    assert [one.title for one in steadiness(records)] == [
        "dialogsum, smollm2-135m: 1 of 1000 rows",
        "dialogsum, smollm2-135m: 2 of 1000 rows",
        "gsm8k, smollm2-135m: 1 of 1000 rows",
        "gsm8k, smollm2-135m: 2 of 1000 rows",
    ]


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


def test_the_command_shows_pairs_of_selectors_and_of_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def table(*records: Record) -> str:
        for number, record in enumerate(records):
            write_record(tmp_path / "quickstart" / f"{number}.json", record.data)
        code = main(["table", "--results", str(tmp_path), "--agreement", "--format", "md"])
        told = capsys.readouterr()
        return told.err if code else told.out

    ifd = [chose("ifd", 0, ["a", "b"], [1, 2, 3, 4]), chose("ifd", 1, ["a", "c"], [1, 3, 2, 4])]
    assert "no two selectors chose as many rows of one pool, and none did under two seeds" in table(ifd[0])
    alone = table(*ifd)
    assert alone.startswith("**dialogsum, smollm2-135m: 2 of 1000 rows: pairs of seeds, on average")
    assert "| ifd | 2 | 0.80 | 0.50 |" in alone
    both = table(*ifd, chose("low_ppl", 0, ["a", "b"], [1, 2, 3, 4]))
    assert "rank correlation of the scores**" in both
    assert both.endswith("\n\n" + alone)
