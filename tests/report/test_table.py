"""STR worked out by hand, seeds averaged, environments kept apart, and each format read back."""

import csv
import io
from itertools import permutations

import pytest
from made_records import made

from dwbench.errors import UserError
from dwbench.records import Record
from dwbench.report.formats import arrow, render, short
from dwbench.report.str_ratio import Ratio, full_seconds, ratios
from dwbench.report.table import table


def quickstart() -> list[Record]:
    return [
        made("ifd", scorer="smollm2-135m", select=(40.0, 1e15)),
        made("full", train_seconds=200.0),
        made("data_whisperer", scorer="smollm2-135m", select=(150.0, 4e15)),
        made("zero_shot", select=(0.5, 0.0), train_seconds=0.0),
        made("random", select=(0.001, 0.0), rows=50),
        made("random", select=(0.001, 0.0)),
    ]


def test_measured_str() -> None:
    ifd, full, whisperer, zero, *_ = ratios(quickstart())
    assert ifd == Ratio(seconds=40 / 200, flop=1e15 / 5e15, estimated=False)
    assert whisperer == Ratio(seconds=150 / 200, flop=0.8, estimated=False)
    assert full == zero == Ratio(seconds=0.0, flop=0.0, estimated=False)


def test_measured_full_tuning_is_a_mean_over_seeds() -> None:
    pair = [made("full", seed=0, train_seconds=100.0), made("full", seed=1, train_seconds=140.0)]
    assert ratios([*pair, made("ifd", select=(60.0, 0.0))])[-1].seconds == 60 / 120


def test_estimated_str() -> None:
    # 30 s for 10,000 tokens and 50 s for 30,000: 80 / 40,000 s a token; the pool has 100,000 tokens: 200 s.
    ifd = made("ifd", select=(40.0, 1e15), train_seconds=30.0)
    other = made("low_ppl", rows=300, train_seconds=50.0)
    whole = full_seconds([ifd, other])
    assert whole is not None
    assert whole.seconds == pytest.approx(200.0)
    assert whole.estimated
    ratio = ratios([ifd, other])[0]
    assert ratio.seconds == pytest.approx(0.2)
    assert (ratio.flop, ratio.estimated) == (0.2, True)


def test_tuning_shared_by_two_selectors_is_timed_once() -> None:
    ifd, twin = made("ifd", train_seconds=30.0), made("low_ppl", train_seconds=30.0)
    artefacts = {**twin.data["artefacts"], "training": ifd.data["artefacts"]["training"]}
    twin = Record(twin.path, {**twin.data, "artefacts": artefacts})
    slow = made("random", rows=200, train_seconds=90.0)
    whole = full_seconds([ifd, twin, slow])
    assert whole is not None
    assert whole.seconds == pytest.approx(120 / 30_000 * 100_000)


@pytest.mark.parametrize("other", [made("full", cores=16), made("full", rate=1e-5), made("zero_shot")])
def test_other_hardware_or_training_does_not_measure(other: Record) -> None:
    assert ratios([made("ifd"), other])[0].estimated


def test_unknown_without_any_tuned_run() -> None:
    assert full_seconds([made("zero_shot")]) is None


def test_rows_are_sorted() -> None:
    (section,) = table(quickstart()).sections
    told = [(row.label, row.budget) for row in section.rows]
    assert told == [
        ("zero_shot", None),
        ("random", 50),
        ("random", 100),
        ("data_whisperer", 100),
        ("ifd", 100),
        ("full", 1000),
    ]


def test_seeds_are_averaged() -> None:
    values = (0.2, 0.3, 0.4)
    runs = [made(seed=s, metrics={"rouge_l": (v, 0.01)}, select=(s, 0.0)) for s, v in enumerate(values)]
    ((row,),) = (section.rows for section in table(runs).sections)
    assert row.scores["rouge_l"].value == pytest.approx(0.3)
    assert row.scores["rouge_l"].stderr == pytest.approx(0.1 / 3**0.5)
    assert (row.seeds, row.scores["rouge_l"].seeds, row.selection_seconds) == (3, 3, 1.0)
    text = render(table(runs))
    assert "seeds" in text
    assert "mean over seeds" in text
    assert "0.300 ±0.058" in text


def test_one_evaluation_under_three_seeds_keeps_its_own_error() -> None:
    ((row,),) = (section.rows for section in table([made("zero_shot", seed=s) for s in range(3)]).sections)
    assert (row.seeds, row.scores["rouge_l"].stderr) == (1, 0.0125)


def test_rows_with_one_label_are_told_apart() -> None:
    (section,) = table([made("ifd"), made("ifd", rate=1e-5), made("ifd", scorer="gpt2")]).sections
    assert {row.label for row in section.rows} == {
        "ifd (training.learning_rate=0.0001)",
        "ifd (training.learning_rate=1e-05)",
        "ifd by gpt2",
    }


def test_runs_that_are_not_alike_are_not_averaged() -> None:
    alike = [
        ({"seed": 0, "nll_rows": 64}, {"seed": 1}, "evaluation.nll_rows=64", "evaluation.nll_rows=None"),
        ({"seed": 0}, {"seed": 1, "version": 2}, "selector.version=1", "selector.version=2"),
        ({"seed": 0}, {"seed": 1, "split_seed": 1}, "evaluation.split_seed=0", "evaluation.split_seed=1"),
        ({"seed": 0, "embedder": "e5"}, {"seed": 1, "embedder": "bge"}, "embedder.name=e5", "embedder.name=bge"),
    ]
    for one, other, *told in alike:
        (section,) = table([made("miwv", **one), made("miwv", **other)]).sections
        assert {row.label for row in section.rows} == {f"miwv ({what})" for what in told}
        assert [row.seeds for row in section.rows] == [1, 1]


def test_an_identity_is_told_only_where_its_name_does_not_tell_it() -> None:
    def embedded(name: str, length: int, seed: int) -> Record:
        record = made("miwv", embedder=f"{name}-{length}", seed=seed)
        told = {"name": name, "identity": {"weights": name, "max_length": length}}
        return Record(record.path, {**record.data, "embedder": told})

    (section,) = table([embedded("bge", 512, 0), embedded("bge", 256, 1), embedded("minilm", 256, 2)]).sections
    assert {row.label for row in section.rows} == {
        "miwv (embedder.name=bge, embedder.identity.max_length=512)",
        "miwv (embedder.name=bge, embedder.identity.max_length=256)",
        "miwv (embedder.name=minilm, embedder.identity.max_length=256)",
    }


def test_the_size_of_batches_divides_no_section_and_no_tuning_time() -> None:
    full = made("full", train_seconds=200.0, token_budget=4096)
    ifd = made("ifd", select=(40.0, 0.0), token_budget=2048)
    (section,) = table([full, ifd]).sections
    assert [(row.label, row.ratio.seconds, row.ratio.estimated) for row in section.rows] == [
        ("ifd", 0.2, False),
        ("full", 0.0, False),
    ]


def test_two_results_of_one_seed_are_not_averaged() -> None:
    one, other = made("ifd", experiment="a"), made("ifd", experiment="b")
    (section,) = table([one, other]).sections
    assert {row.label for row in section.rows} == {f"ifd (run {record.run[:8]})" for record in (one, other)}


def test_runs_that_share_one_of_two_results_of_a_seed_are_shown_with_it() -> None:
    one, other, again = made("ifd", experiment="a"), made("ifd", experiment="b"), made("ifd", seed=1)
    again = Record(again.path, {**again.data, "artefacts": one.data["artefacts"]})
    for records in permutations([one, other, again]):
        (section,) = table(records).sections
        shown = sorted(sorted(row.runs) for row in section.rows)
        assert shown == sorted([sorted([one.run, again.run]), [other.run]])
        assert [row.seeds for row in section.rows] == [1, 1]


def test_a_run_in_two_experiments_is_shown_once() -> None:
    one = made("ifd")
    twin = Record(one.path.with_name("other.json"), {**one.data, "experiment": "other"})
    assert len(table([one, twin]).sections[0].rows) == 1


def test_mixed_environments_are_refused_and_named() -> None:
    records = [made("ifd"), made("random"), made("full", torch="2.12.0", cores=16)]
    with pytest.raises(UserError) as error:
        table(records)
    told = str(error.value)
    assert "torch 2.12.0 (1 record), 2.13.0 (2 records)" in told
    assert "hardware.cores 16 (1 record), 2 (2 records)" in told
    assert "trl" not in told
    assert "\n" not in told
    mixed = table(records, allow_mixed=True)
    assert "Mixed environments: torch" in render(mixed)
    # The full run was timed on other hardware, so it does not count as measured.
    assert all(row.ratio.estimated for row in mixed.sections[0].rows if row.label in ("ifd", "random"))


def test_a_full_run_of_another_experiment_serves_as_reference() -> None:
    ifd, full = made("ifd", select=(40.0, 0.0)), made("full", train_seconds=200.0, experiment="other")
    ((row,),) = (section.rows for section in table([ifd], reference=[ifd, full]).sections)
    assert row.ratio == Ratio(0.2, 0.0, estimated=False)
    older = made("full", train_seconds=200.0, torch="2.12.0")
    assert table([ifd], reference=[older]).sections[0].rows[0].ratio.estimated


def test_estimates_are_marked_and_explained() -> None:
    estimated = render(table([made("ifd")]))
    assert "~0.00667" in estimated  # 2 s / (30 s / 10,000 tokens x 100,000 tokens)
    assert "~: estimated" in estimated
    assert "~" not in render(table(quickstart()))


def test_a_missing_metric_is_a_dash() -> None:
    records = [made("ifd"), made("random", metrics={"rouge_l": (0.2, None)})]
    line = next(line for line in render(table(records)).splitlines() if line.startswith("random"))
    assert line.split()[:4] == ["random", "100", "0.200", "-"]


@pytest.mark.parametrize("width", [40, 80, 100, 120])
def test_text_fits_and_never_cuts_a_number(width: int) -> None:
    records = [
        made(name, metrics={f"metric_{i}": (12.3456, 0.0123) for i in range(5)}, scorer="smollm2-135m")
        for name in ("data_whisperer", "random")
    ]
    text = render(table(records), width=width)
    assert max(map(len, text.splitlines()[1:])) <= max(width, 42)
    # All five metrics of both rows are there, whole, however many blocks it took.
    assert text.count("12.346 ±0.012") == 10
    assert "…" not in text


def test_a_long_label_is_folded_not_the_numbers() -> None:
    text = render(table([made("data_whisperer", label="data_whisperer(n_d=10,n_q=5,layer=13,variant=reference)")]))
    assert "0.250 ±0.013" in text
    assert max(map(len, text.splitlines()[1:])) <= 100


def test_csv_keeps_full_precision() -> None:
    records = [
        made("ifd", metrics={"nll": (1 / 3, 0.1 / 3)}),
        made("zero_shot", metrics={"nll": (2.5, None)}),
    ]
    zero, ifd = csv.DictReader(io.StringIO(render(table(records), "csv")))
    assert float(ifd["nll"]) == 1 / 3
    assert float(ifd["nll_stderr"]) == 0.1 / 3
    assert (ifd["nll_n"], ifd["str_seconds_estimated"], ifd["budget_rows"]) == ("64", "true", "100")
    assert (zero["nll_stderr"], zero["budget_rows"], zero["str_seconds"]) == ("", "", "0.0")


def test_markdown_has_as_many_cells_in_every_line() -> None:
    lines = [line for line in render(table(quickstart()), "md").splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 6
    assert len({line.count("|") for line in lines}) == 1
    assert "rouge_l ↑" in lines[0]
    assert "nll ↓" in lines[0]


def test_latex_is_escaped() -> None:
    text = render(table([made("data_whisperer", label="data_whisperer(share=5%)")]), "latex")
    assert r"data\_whisperer(share=5\%)" in text
    assert r"rouge\_l $\uparrow$" in text
    assert r"$\sim$0.00667" in text
    for line in ("\\toprule", "\\midrule", "\\bottomrule"):
        assert line in text
    assert not set(text) & set("±↑↓~")


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'latex'"):
        render(table([]), "latx")


def test_no_records() -> None:
    assert render(table([])) == "no records\n"


@pytest.mark.parametrize(
    ("number", "told"),
    [(None, "-"), (0, "0"), (0.00012, "1.2e-04"), (0.0123, "0.0123"), (99.96, "100"), (12345.6, "12,346")],
)
def test_short(number: float | None, told: str) -> None:
    assert short(number) == told


def test_arrows() -> None:
    assert [arrow(name) for name in ("nll", "rouge_l", "exact_match_strict", "odd")] == ["↓", "↑", "↑", ""]


def apart(record: Record, field: str, values: dict[str, list[str]]) -> Record:
    """The record as of a run whose stages differ in `field`."""
    return Record(record.path, {**record.data, "environments_differ": {field: values}})


def test_a_run_whose_own_stages_differ_is_refused_and_named() -> None:
    odd = apart(made("ifd"), "packages.torch", {"selection": ["2.12.0"], "training": ["2.13.0"]})
    for records in ([odd], [odd, made("random")]):
        with pytest.raises(UserError, match=r"torch 2\.12\.0 and 2\.13\.0 in one run \(1 record\)"):
            table(records)
    assert "Mixed environments: torch 2.12.0 and 2.13.0 in one run" in render(table([odd], allow_mixed=True))


def test_a_commit_that_differs_within_a_run_does_not_count() -> None:
    assert table([apart(made("ifd"), "commit", {"selection": ["a"], "training": ["b"]})]).mixed == ""


def test_str_in_seconds_needs_one_machine() -> None:
    cpu = "hardware.cpu"
    full = made("full", train_seconds=200.0)
    ifd = made("ifd", select=(40.0, 1e15))
    selected_elsewhere = apart(ifd, cpu, {"selection": ["B"], "training": ["Test CPU"], "evaluation": ["Test CPU"]})
    assert ratios([selected_elsewhere, full])[0] == Ratio(None, 0.2, estimated=False)
    evaluated_elsewhere = apart(ifd, cpu, {"selection": ["Test CPU"], "training": ["Test CPU"], "evaluation": ["B"]})
    assert ratios([evaluated_elsewhere, full])[0] == Ratio(0.2, 0.2, estimated=False)
    tuned_elsewhere = apart(full, cpu, {"training": ["B"], "evaluation": ["Test CPU"]})
    assert ratios([ifd, tuned_elsewhere])[0].estimated


def test_a_reference_tuned_with_other_versions_does_not_measure() -> None:
    full = made("full", train_seconds=200.0, experiment="other")
    older = apart(full, "packages.torch", {"training": ["2.12.0"], "evaluation": ["2.13.0"]})
    assert table([made("ifd")], reference=[older]).sections[0].rows[0].ratio.estimated
    assert not table([made("ifd")], reference=[full]).sections[0].rows[0].ratio.estimated


def test_rows_of_one_name_are_told_apart_by_their_labels() -> None:
    (section,) = table([made("ifd"), made("ifd", rate=1e-5), made("random")]).sections
    assert [row.name for row in section.rows] == ["random", "ifd", "ifd"]
    assert len({row.label for row in section.rows}) == 3
