"""The page says what the table says, of every run, and of what is odd, failed or left out."""

import json
from pathlib import Path

import pytest
from made_records import made
from page_records import enriched, odd, one, said, sample, scored, showcase

from dwbench.records import Record
from dwbench.report.formats import render
from dwbench.report.page.failed import failures
from dwbench.report.page.payload import payload
from dwbench.report.page.runs import with_samples
from dwbench.report.table import table


def test_scores_and_str_are_those_of_the_table() -> None:
    records = [
        *(made("ifd", rows=50, seed=seed, metrics={"nll": (1.0 + seed / 8, 0.5)}) for seed in range(3)),
        made("random", rows=50, metrics={"nll": (1.125, 0.04)}, select=(1e-3, 0.0)),
        made("low_ppl", metrics={"nll": (1.0, 0.0)}, select=(70.0, 1e15)),
        made("nuggets", metrics={"nll": (0.5, None)}, select=(400.0, 3e16)),
        made("zero_shot", metrics={"nll": (2.0, 0.03)}),
    ]
    lines = [line for line in render(table(records), "md").splitlines() if line.startswith("| ")]
    head, _, *cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    written = {(line[0], line[head.index("budget (rows)")]): dict(zip(head, line, strict=True)) for line in cells}
    found = one(records)["rows"]
    assert len(found) == len(written)
    for row in found:
        budget = "-" if row["budget"] is None else str(row["budget"])
        cell = written[row["label"], budget]
        assert row["scores"]["nll"][-1] == cell["nll ↓"]
        ratio = float(cell["STR (s)"].removeprefix("~"))
        assert row["cost"]["seconds"] == pytest.approx(ratio, rel=6e-3, abs=1e-6)
        assert row["estimated"] == cell["STR (s)"].startswith("~")
        assert row["cost"]["flop"] == pytest.approx(float(cell["STR (FLOP)"]), rel=6e-3)


def test_a_run_and_its_row_have_one_str() -> None:
    # Tuned with another torch: its clock serves neither the table's STR nor the run's own.
    records = [made("ifd"), made("full", torch="2.12.0", train_seconds=100.0)]
    told = payload(records, ())
    mine = told["runs"][records[0].run]["str"]
    (row,) = [row for setting in told["settings"] for row in setting["rows"] if row["label"] == "ifd"]
    assert mine == [row["cost"]["seconds"], row["cost"]["flop"], row["estimated"]]
    assert mine == [pytest.approx(2 / 300), 0.2, True]
    mixed = payload(records, (), allow_mixed=True)["runs"][records[0].run]["str"]
    assert mixed == [pytest.approx(2 / 100), 0.2, False]


def test_who_chooses_nothing_is_charged_nothing_for_it() -> None:
    full = made("full", select=(2.0, 1e15))
    told = payload([full, made()], ())["runs"][full.run]
    assert told["seconds"] == [0, 30.0, 9.0]
    assert [stage[0] for stage in told["stages"]] == ["training", "evaluation"]


def test_comparisons_of_one_seed_are_called_so() -> None:
    def run(selector: str, seed: int) -> Record:
        return scored(selector, [0.1 * row + seed for row in range(8)], seed=seed)

    three = [run(selector, seed) for selector in ("random", "ifd") for seed in range(3)]
    for records, told in (
        ([*three, run("low_ppl", 0)], "some of one seed"),
        (three, ""),
        ([run("random", 0), run("ifd", 0)], "one seed"),
        # Not compared with random at all: no comparison of one seed.
        ([*three, run("low_ppl", 7)], ""),
    ):
        (board,) = one(records)["boards"]
        assert board["seeds"] == told


def test_what_is_no_number_is_not_known() -> None:
    told = payload(odd(), ())
    json.dumps(told, allow_nan=False)
    (setting,) = [setting for setting in told["settings"] if setting["dataset"] == "no_number"]
    assert list(setting["rows"][0]["scores"]) == ["rouge_l"]
    run = told["runs"][setting["rows"][0]["runs"][0]]
    assert run["metrics"]["nll"] == [None, None, 64, "–"]
    noted = enriched(made(), selection={"notes": {"share": float("inf")}}, config={"a": [float("nan")]})
    found = payload([noted], ())
    assert found["runs"][noted.run]["notes"] == {"share": None}
    assert [None] in found["shared"]


def test_a_run_of_two_experiments_is_one_and_tells_of_both() -> None:
    both = [enriched(made(), experiment=name) for name in ("table1", "figure1", None)]
    (run,) = payload(both, ())["runs"].values()
    assert run["experiments"] == ["table1", "figure1"]


def test_choices_know_their_budget() -> None:
    told = payload(showcase(), ())
    (main,) = [setting for setting in told["settings"] if setting["evaluated"]]
    assert {one["rows"] for one in main["agreement"]} == {10, 50, 100}
    assert {one["title"].split("seed ")[1] for one in main["agreement"]} == {"0", "1", "2"}
    (noisy,) = [setting for setting in told["settings"] if not setting["evaluated"]]
    (audit,) = noisy["chosen"]["kinds"]
    assert audit["rows"] == 100
    assert {name: told["runs"][run]["selector"] for name, run in audit["runs"].items()} == {
        name: name for name in ("random", "ifd", "low_ppl", "longest_response")
    }


def test_long_lists_are_cut_in_sentences() -> None:
    def run(number: int) -> Record:
        return scored(f"s{number:02}" if number else "random", [0.1 * row for row in range(8)])

    (setting,) = payload([run(number) for number in range(13)], ())["settings"]
    ((_, verdict),) = setting["said"]["metrics"]["rouge_l"]["verdicts"]
    assert "not distinguishable from random: s01, s02, s03, s04, s05, s06, s07, s08 and 4 more;" in said(verdict)


def test_texts_beyond_the_room_are_left_out_last_seeds_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(seed: int, text: str, selector: str = "ifd") -> Record:
        return enriched(made(selector, seed=seed), selection={"samples": [sample("a", True, input=text, response="")]})

    late, first, same = told(1, "y" * 80), told(0, "x" * 80), told(2, "x" * 80)
    empty = made("random")
    assert with_samples([late, first, same, empty], most=84 + 82) == {late.run, first.run, same.run}
    assert with_samples([late, first, same, empty], most=84) == {first.run, same.run}
    monkeypatch.setattr("dwbench.report.page.runs.with_samples", lambda records: {first.run})
    left = payload([late, first, empty], ())
    assert left["samples_left_out"] == 1
    assert [left["runs"][one.run]["samples"] is None for one in (late, first, empty)] == [True, False, True]


def test_failed_runs_are_told(tmp_path: Path) -> None:
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "a.json").write_text(json.dumps({"error": "no room", "command": "dwbench run x"}))
    (tmp_path / "failed" / "b.json").write_text("{")
    first, second = failures(tmp_path)
    assert first == {"run": "a", "error": "no room", "command": "dwbench run x"}
    assert second["error"].startswith("b.json can't be read")
    assert payload([made()], (), failed=[first])["failed"] == [first]
    assert failures(tmp_path / "failed") == []
