"""Published numbers beside ours: read, matched, subtracted by hand; what is missing or odd is told."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_records import POOL, made
from page_records import enriched

from dwbench.commands.show import table as table_command
from dwbench.config import conf_folder
from dwbench.errors import UserError
from dwbench.records import Record
from dwbench.report.comparison import Cell, Comparison, compare
from dwbench.report.comparison_view import render
from dwbench.report.published import COLUMNS, Published, published
from dwbench.report.table import Table, table

NAMES = sorted(path.stem for path in (conf_folder() / "published").glob("*.csv"))


def number(
    selector: str = "random", budget: str = "10%", value: float = 30.0, metric: str = "rouge_l", caveat: str = ""
) -> Published:
    return Published("smollm2-135m", "dialogsum", selector, budget, metric, value, selector, caveat, "Table 1")


def cells(comparison: Comparison) -> dict[tuple[str, str], Cell]:
    return {(cell.selector, cell.budget): cell for cell in comparison.cells}


def only(table: Table, *numbers: Published) -> dict[tuple[str, str], Cell]:
    (comparison,) = compare(table, numbers)
    return cells(comparison)


def test_ours_stands_beside_the_papers() -> None:
    records = [made("random"), made("ifd", metrics={"rouge_l": (0.31, 0.01)}), made("random", rows=50)]
    found = only(table(records), number(), number("ifd", value=32.5), number("ifd", "5%", 28.0))
    assert found["random", "10%"].difference == pytest.approx(25.0 - 30.0)
    assert found["ifd", "10%"].difference == pytest.approx(31.0 - 32.5)
    ours = found["ifd", "10%"].ours
    assert ours is not None
    assert (ours.value, ours.stderr) == pytest.approx((31.0, 1.0))
    # 5 % of ifd was not run; random at 5 % was, and the paper does not have it.
    assert found["ifd", "5%"].ours is None
    assert found["random", "5%"].paper is None


def test_a_budget_may_be_a_number_of_rows() -> None:
    found = only(table([made("random", rows=50)]), number(budget="50"), number(budget="2000"))
    assert found["random", "50"].difference == pytest.approx(-5.0)
    assert found["random", "2000"].ours is None  # the pool has 1,000 rows


def test_missing_cells_say_so() -> None:
    made_table = table([made("random")])
    text = render(compare(made_table, [number(), number("ifd")]), made_table, "text")
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line[:3] in ("ran", "ifd")}
    assert lines["random"] == ["25.00", "±1.25", "30.00", "-5.00"]
    assert lines["ifd"] == ["missing", "30.00", "-"]
    assert "Ours: 1 of the 2 numbers of the paper." in text


def test_only_an_exact_name_is_taken() -> None:
    records = [made("ifd", label="ifd(max=2)"), made("ifd", scorer="qwen2.5-3b-instruct"), made("miwv")]
    found = only(table(records), number("ifd"), number("ifd(max=2)"), number("miwv(k=1)"))
    assert found["ifd", "10%"].ours is None
    assert found["ifd(max=2)", "10%"].difference == pytest.approx(-5)
    assert found["miwv(k=1)", "10%"].ours is None
    # What has no number of the paper stands in a line of its own.
    assert found["ifd by qwen2.5-3b-instruct", "10%"].paper is None


def test_where_several_of_ours_match_none_is_taken_and_all_are_shown() -> None:
    records = [made("ifd"), made("ifd", rate=1e-5), made("random"), made("nuggets"), made("nuggets", rate=1e-5)]
    made_table = table(records)
    found = only(made_table, number("ifd"), number())
    apart = ("ifd (training.learning_rate=0.0001)", "ifd (training.learning_rate=1e-05)")
    assert found["ifd", "10%"].ours is None
    assert sorted(found["ifd", "10%"].several) == list(apart)
    assert found["random", "10%"].several == ()
    for label in apart:
        assert found[label, "10%"].ours is not None
        assert found[label, "10%"].paper is None
    comparisons = compare(made_table, [number("ifd")])
    text = render(comparisons, made_table, "md")
    assert "| ifd | several | 30.00 | - |" in text
    assert "several: more than one of ours is ifd at 10%: ifd (training.learning_rate=" in text
    assert "Ours: 0 of the 1 numbers" in text
    first = next(csv.DictReader(io.StringIO(render(comparisons, made_table, "csv"))))
    assert (first["ours"], sorted(first["several"].split("; "))) == ("", list(apart))
    # Neither of the two nuggets is the one to be divided by.
    (speedup,) = compare(made_table, [number("random", metric="speedup")])
    assert cells(speedup)["random", "10%"].ours is None
    mean = only(made_table, number("ifd", "5%+10%"))["ifd", "5%+10%"]
    assert (mean.ours, sorted(mean.several)) == (None, list(apart))


def test_two_numbers_of_the_paper_for_one_cell_have_a_line_each() -> None:
    target = replace(number("ifd", value=28.0), method="the default setting")
    made_table = table([made("ifd")])
    found = only(made_table, number("ifd"), target)
    assert found["ifd", "10%"].difference == pytest.approx(-5)
    assert found["ifd: the default setting", "10%"].difference == pytest.approx(-3)
    assert "Ours: 2 of the 2 numbers" in render(compare(made_table, [number("ifd"), target]), made_table, "text")


def test_what_is_at_no_budget_of_the_paper_is_told() -> None:
    made_table = table([made("ifd"), made("ifd", rows=300), made("random", rows=50), made("zero_shot")])
    (one,) = compare(made_table, [number("ifd"), number("ifd", "5%+10%")])
    assert [(cell.selector, cell.budget) for cell in one.left_out] == [
        ("zero_shot", ""),
        ("random", "50"),
        ("ifd", "300"),
    ]
    assert "(--plain shows it): zero_shot; random at 50 rows; ifd at 300 rows." in render([one], made_table, "md")


def test_what_is_left_out_stands_in_the_csv() -> None:
    made_table = table([made("ifd"), made("random", rows=50, train_seconds=20.0), made("full", train_seconds=200.0)])
    quality, cost = compare(made_table, [number("ifd"), number("ifd", metric="str_with_tuning", value=1.0)])
    lines = list(csv.DictReader(io.StringIO(render([quality, cost], made_table, "csv"))))
    told = {(line["metric"], line["selector"], line["budget"]): (line["ours"], line["paper"]) for line in lines}
    assert told["rouge_l", "random", "50"] == ("25.0", "")
    assert told["rouge_l", "full", "1000"] == ("25.0", "")
    assert float(told["str_with_tuning", "random", "50"][0]) == pytest.approx(0.11)
    # What a bound costs is known without a run.
    assert ("str_with_tuning", "full", "1000") not in told


def test_what_ours_was_tuned_by_and_scored_on_is_told() -> None:
    records = [made("ifd"), made("random", rate=1e-5), made("zero_shot")]
    part = enriched(made("miwv"), dataset={"rows": {"pool": POOL, "target": 50, "test": 200}})
    made_table = table([*records, part])
    numbers = [number("ifd"), number(), number("miwv"), number("zero_shot", "")]
    text = render(compare(made_table, numbers), made_table, "md")
    assert "- Ours tuned by LoraSFT(epochs=2, learning_rate=0.0001).\n" in text
    assert "- Ours tuned by LoraSFT(epochs=2, learning_rate=1e-05).\n" in text
    assert "Of ours scored on fewer than the 200 test rows: 64 (miwv).\n" in text
    assert text.count("scored on fewer") == 1
    lines = csv.DictReader(io.StringIO(render(compare(made_table, numbers), made_table, "csv")))
    found = {line["selector"]: line for line in lines if line["ours"]}
    assert (found["miwv"]["test_rows"], found["miwv"]["ours_rows"], found["miwv"]["pool_rows"]) == ("200", "64", "1000")
    assert found["random"]["ours_training"] == "LoraSFT(epochs=2, learning_rate=1e-05)"
    assert found["zero_shot"]["ours_training"] == ""


def test_what_ran_without_a_number_is_unknown() -> None:
    differ = {"hardware.cores": {"selection": [2], "training": [64], "evaluation": [2]}}
    made_table = table([enriched(made("ifd"), environments_differ=differ)], allow_mixed=True)
    numbers = [
        number(name, metric=metric, value=1.0)
        for metric in ("str_with_tuning", "total_seconds")
        for name in ("ifd", "miwv")
    ]
    comparisons = compare(made_table, numbers)
    assert len(comparisons) == 2
    for one in comparisons:
        assert (cells(one)["ifd", "10%"].ours, cells(one)["ifd", "10%"].ran) == (None, True)
    text = render(comparisons, made_table, "md")
    assert text.count("| ifd | unknown |") == text.count("| miwv | missing |") == 2
    assert "unknown: ran, but" in text


def test_a_number_counts_once_however_many_of_our_sections_it_stands_in() -> None:
    part = enriched(made("ifd", seed=1), dataset={"rows": {"pool": POOL, "target": 50, "test": 200}})
    made_table = table([made("ifd"), part])
    comparisons = compare(made_table, [number("ifd"), replace(number("miwv"), source="Figure 3")])
    assert len(comparisons) == 2
    told = "Ours: 1 of the 2 numbers of the paper, 1 of them measured off a figure."
    assert told in render(comparisons, made_table, "text")


def test_budgets_stand_in_the_papers_order() -> None:
    made_table = table([made("ifd"), made("miwv", rows=50)])
    numbers = [replace(number("low_ppl", budget), dataset="bioinstruct") for budget in ("1%", "5%+10%", "5%", "10%")]
    _, ours = compare(made_table, numbers)
    head = next(line for line in render([ours], made_table, "md").splitlines() if line.startswith("| selector"))
    assert head == "| selector | 5% ours | 10% ours |"


def test_ratios_have_two_decimals_as_printed() -> None:
    made_table = table(timed())
    numbers = [
        number("data_whisperer", metric="str_with_tuning", value=1.1),
        number("data_whisperer", metric="speedup", value=20.17),
    ]
    text = render(compare(made_table, numbers), made_table, "md")
    assert "| data_whisperer | 0.15 | 0.10 | 1.10 | -0.95 |" in text
    assert "| data_whisperer | 4.00 | 20.17 | -16.17 |" in text


def test_nothing_of_ours() -> None:
    nothing = table([])
    text = render(compare(nothing, [number()]), nothing, "text")
    assert "smollm2-135m, dialogsum: rouge_l, per cent" in text
    assert "Ours: 0 of the 1 numbers" in text


def test_bounds_stand_at_every_budget() -> None:
    records = [made("zero_shot"), made("full"), made("random")]
    numbers = [number("zero_shot", "", 18.0), number("full", "100%", 43.0), number(), number(budget="5%")]
    found = only(table(records), *numbers)
    assert found["zero_shot", ""].difference == pytest.approx(7.0)
    assert found["full", "100%"].difference == pytest.approx(-18.0)
    made_table = table(records)
    text = render(compare(made_table, numbers), made_table, "md")
    assert next(line for line in text.splitlines() if line.startswith("| full")).count("43.00") == 2
    assert "100% ours" not in text


def test_caveats_are_marked_and_told_once_a_table() -> None:
    odd = "another configuration: n_d=5"
    numbers = [number(), number("ifd", caveat=odd), number("ifd", "5%", caveat=odd), number("miwv", caveat="misprint")]
    made_table = table([made("ifd")])
    text = render(compare(made_table, numbers), made_table, "text", width=200)
    assert text.count("30.00 (1)") == 2
    assert "30.00 (2)" in text
    assert "(1) another configuration: n_d=5\n(2) misprint" in text


def test_a_mean_over_budgets_needs_all_of_them() -> None:
    mean = number("ifd", "5%+10%", 26.0)
    one = made("ifd", rows=50, metrics={"rouge_l": (0.2, 0.01)})
    assert only(table([one]), mean)["ifd", "5%+10%"].ours is None
    both = only(table([one, made("ifd", metrics={"rouge_l": (0.3, 0.01)})]), mean)
    assert both["ifd", "5%+10%"].difference == pytest.approx(25.0 - 26.0)


def timed() -> list[Record]:
    return [
        made("full", train_seconds=200.0),
        made("nuggets", select=(100.0, 1e15), train_seconds=20.0),
        made("data_whisperer", select=(20.0, 1e15), train_seconds=10.0),
    ]


def test_times_by_hand() -> None:
    numbers = [
        number("data_whisperer", metric="str_with_tuning", value=0.2),
        number("data_whisperer", metric="speedup", value=5.0),
        number("data_whisperer", metric="total_seconds", value=40.0),
        number("full", "100%", metric="total_seconds", value=100.0),
    ]
    made_table = table(timed())
    str_, speedup, total = (cells(one) for one in compare(made_table, numbers))
    whisperer = str_["data_whisperer", "10%"]
    assert whisperer.ours is not None
    assert whisperer.beside is not None
    assert (whisperer.ours.value, whisperer.beside.value) == pytest.approx((30 / 200, 20 / 200))
    assert whisperer.difference == pytest.approx(-0.05)
    assert speedup["data_whisperer", "10%"].difference == pytest.approx(120 / 30 - 5)
    assert ("nuggets", "10%") not in speedup
    assert total["data_whisperer", "10%"].difference == pytest.approx(-10)
    assert total["full", "100%"].difference == pytest.approx(100)
    text = render(compare(made_table, numbers), made_table, "text")
    assert "selection" in text
    assert "~" not in text


def test_an_estimated_str_is_marked() -> None:
    numbers = [number("ifd", metric="str_with_tuning", value=0.2)]
    made_table = table([made("ifd")])
    text = render(compare(made_table, numbers), made_table, "text")
    line = next(line.split() for line in text.splitlines() if line.startswith("ifd"))
    assert [cell[0] for cell in line[1:3]] == ["~", "~"]  # with tuning, and of selecting alone
    (estimated,) = csv.DictReader(io.StringIO(render(compare(made_table, numbers), made_table, "csv")))
    assert estimated["ours_estimated"] == "True"
    assert "~: estimated" in text
    quality = render(compare(made_table, [number("ifd")]), made_table, "text")
    assert "~" not in quality


def test_our_other_data_follow_without_a_papers_columns() -> None:
    metrics: dict[str, tuple[float, float | None]] = {
        "exact_match_strict": (0.5, 0.1),
        "exact_match_flexible": (0.75, 0.1),
    }
    records = [made("random", dataset=name, metrics=metrics) for name in ("gsm8k", "gsm8k_paper")]
    one = replace(number(metric="exact_match_strict", value=60.0), dataset="gsm8k_paper")
    first, second = compare(table(records), [one])
    assert (first.dataset, second.dataset) == ("gsm8k_paper", "gsm8k")
    assert cells(second)["random", "10%"].paper is None
    made_table = table(records)
    parts = render([first, second], made_table, "md").split("**")
    assert "10% flexible | 10% paper | 10% difference" in parts[2]
    assert "| random | 50.00 ±10.00 | 75.00 | 60.00 | -10.00 |" in parts[2]
    assert "paper |" not in parts[4]
    assert "| random | 50.00 ±10.00 | 75.00 |" in parts[4]


def test_formats() -> None:
    made_table = table([made("data_whisperer")])
    odd = "another configuration: n_d=5 & 60 %, x_y"
    comparisons = compare(made_table, [number("data_whisperer", caveat=odd), number("ifd")])
    whisperer, ifd = csv.DictReader(io.StringIO(render(comparisons, made_table, "csv")))
    assert (whisperer["ours"], whisperer["paper"], whisperer["difference"]) == ("25.0", "30.0", "-5.0")
    assert (whisperer["caveat"], ifd["ours"], ifd["difference"]) == (odd, "", "")
    tex = render(comparisons, made_table, "latex")
    assert r"(1) another configuration: n\_d=5 \& 60 \%, x\_y" in tex
    assert r"data\_whisperer & 25.00 $\pm$1.25 & 30.00 (1) & -5.00 \\" in tex
    assert not re.search(r"(?<!\\)[#_]|[^\x00-\x7f]", tex)
    with pytest.raises(UserError, match="no table format"):
        render(comparisons, made_table, "html")


@pytest.mark.parametrize("name", NAMES)
def test_every_committed_file_reads_and_draws(name: str) -> None:
    numbers = published(name)
    assert numbers
    nothing = table([])
    tex = render(compare(nothing, numbers), nothing, "latex")
    assert not re.search(r"(?<!\\)[#_]|[^\x00-\x7f]", tex)
    assert tex.count("\\begin{tabular}") == tex.count("\\end{tabular}") > 0
    for line in tex.splitlines():
        assert line.count("{") == line.count("}") or line.startswith(("\\begin", "\\end"))
    assert f"Ours: 0 of the {len(set(numbers)):,} numbers" in render(compare(nothing, numbers), nothing, "text")


def test_the_papers_row_of_mixed_settings_is_marked() -> None:
    whisperer = [one for one in published("table2") if one.method == "Data Whisperer"]
    assert len(whisperer) == 27
    marked = {(one.model, one.dataset, one.budget) for one in whisperer if one.caveat.startswith("another config")}
    assert len(marked) == 11
    default = {(one.model, one.dataset, one.budget): one for one in whisperer_by_default()}
    differ = {place for one in whisperer if default[place := (one.model, one.dataset, one.budget)].value != one.value}
    assert marked == differ


def whisperer_by_default() -> list[Published]:
    return [one for one in published("table2") if one.method == "Data Whisperer, default setting"]


def test_the_default_settings_numbers_are_those_of_the_ablations() -> None:
    ours = {(one.model, one.dataset, one.budget): one for one in whisperer_by_default()}
    assert len(ours) == 27
    printed = [one for one in published("table4") if one.selector == "data_whisperer"]
    measured = [
        one
        for one in published("table6")
        if (one.model, one.selector) == ("mistral-nemo", "data_whisperer") and one.source == "Figure 3"
    ]
    elsewhere = {(one.model, one.dataset, one.budget): one.value for one in [*printed, *measured]}
    assert {place: one.value for place, one in ours.items()} == elsewhere
    assert all("not printed" in one.caveat for one in ours.values() if one.model == "mistral-nemo")


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_are_a_format_effect_are_marked(name: str) -> None:
    place = "qwen2.5-7b-instruct", "gsm8k_paper", "exact_match_strict"
    numbers = [one for one in published(name) if (one.model, one.dataset, one.metric) == place]
    for one in numbers:
        assert ("format effect" in one.caveat) == (one.budget.split("+")[0] in ("", "1%")), one


def test_what_to_bear_in_mind_stands_below_a_papers_scores() -> None:
    nothing = table([])
    told = "748 test rows are of GSM8K's train split"
    gsm8k = replace(number(metric="exact_match_strict"), dataset="gsm8k_paper")
    assert told in render(compare(nothing, [gsm8k]), nothing, "md")
    assert told not in render(compare(nothing, [replace(gsm8k, metric="speedup")]), nothing, "md")
    assert told not in render(compare(nothing, [number()]), nothing, "md")
    assert "three reference summaries" in render(compare(nothing, [number()]), nothing, "md")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes conf/published/mine.csv of the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "published").mkdir(parents=True)

    def write(text: str) -> None:
        (tmp_path / "conf" / "published" / "mine.csv").write_text(text)

    return write


GOOD = "smollm2-135m,dialogsum,random,10%,rouge_l,30,Random,,here"


def test_a_users_own_numbers(own: Callable[[str], None]) -> None:
    own(f"{','.join(COLUMNS)}\n{GOOD}\n")
    (found,) = published("mine")
    assert (found.value, found.budget, found.source) == (30.0, "10%", "here")
    assert published("absent") == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"model,value\n{GOOD}\n", r"mine\.csv:1: the columns must be model,dataset"),
        (f"{','.join(COLUMNS)}\n{GOOD},x\n", r"mine\.csv:2: must have 9 fields"),
        (f"{','.join(COLUMNS)}\n{GOOD}\na,b\n", r"mine\.csv:3: must have 9 fields"),
        (f"{','.join(COLUMNS)}\n{GOOD.replace(',30,', ',thirty,')}\n", r"mine\.csv:2: value 'thirty' is no number"),
        (
            f"{','.join(COLUMNS)}\n{GOOD}\n{GOOD.replace('30', '31')}\n",
            r"mine\.csv:3: a second number for smollm2-135m",
        ),
        (f"{','.join(COLUMNS)}\n{GOOD.replace('10%', 'all')}\n", r"mine\.csv:2: budget=all: no number"),
    ],
)
def test_a_broken_file_is_told_with_its_line(own: Callable[[str], None], text: str, told: str) -> None:
    own(text)
    with pytest.raises(UserError, match=told):
        published("mine")


def test_the_command_shows_what_is_missing_before_anything_ran(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert table_command(["table2", "--format", "md"]) == 0
    text = capsys.readouterr().out
    assert "**llama3-8b-instruct, gsm8k_paper: exact_match_strict, per cent**" in text
    assert "Ours: 0 of the 225 numbers of the paper, 9 of them measured off a figure." in text
    assert "missing" in text
    assert not text.endswith("\n\n")
    for view in ("--plain", "--leaderboard", "--agreement"):
        with pytest.raises(UserError, match="no such folder of results"):
            table_command(["table2", view])
