"""Plots of made-up records, read back from the SVG: their texts, marks and positions are the records' numbers."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from xml.etree import ElementTree

import numpy as np
import pytest
from made_records import cost, made
from plot_records import FEW, chose, compared, perplexities, planned, planted, ranked, scored, whisperer, with_

from dwbench.records import Record
from dwbench.report.kinds import share
from dwbench.report.plots.choices import plot_agreement, plot_kinds
from dwbench.report.plots.costs import plot_cost
from dwbench.report.plots.perplexity import chances_of, plot_perplexity, spreads
from dwbench.report.plots.quality import FRONT, growths, level_marks, plot_budget, plot_str, trades
from dwbench.report.plots.settings import CORRELATION, layers, plot_grid, plot_layers
from dwbench.report.plots.style import SHAPES, Plot, content, marks
from dwbench.report.table import Table, table

SVG = "{http://www.w3.org/2000/svg}"


def drawn(
    plot: Callable[[Table, dict[str, Record], str | None], Plot | None], records: Sequence[Record]
) -> ElementTree.Element:
    return read(plot(table(records), {record.run: record for record in records}, None))


def read(found: Plot | None) -> ElementTree.Element:
    assert found is not None
    return ElementTree.fromstring(content(found.figure, "svg"))


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def marked(root: ElementTree.Element, prefix: str) -> dict[str, list[tuple[float, float]]]:
    """Where the marks of each group lie whose id begins with `prefix`, in the SVG's own units."""
    groups = [group for group in root.iter(f"{SVG}g") if group.get("id", "").startswith(prefix)]
    return {group.get("id", ""): _uses(group) for group in groups}


def _uses(group: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(use.get("x", "nan")), float(use.get("y", "nan"))) for use in group.iter(f"{SVG}use")]


def ticks(root: ElementTree.Element, axis: str) -> dict[str, float]:
    """Label and place of each tick of a figure with one panel."""
    side = 0 if axis == "x" else 1
    found = [group for group in root.iter(f"{SVG}g") if re.fullmatch(rf"{axis}tick_\d+", group.get("id", ""))]
    return {" ".join(texts(group)): _uses(group)[0][side] for group in found}


def valued(root: ElementTree.Element, axis: str, at: Sequence[float], *, log: bool = False) -> list[float]:
    """The values at these places, worked out from the tick labels."""
    told = [(place, float(label.replace("−", "-").lstrip("≤ "))) for label, place in ticks(root, axis).items()]
    places, values = np.array(told).T
    slope, start = np.polyfit(places, np.log10(values) if log else values, 1)
    found = slope * np.array(at) + start
    return list(10**found if log else found)


def test_str_shows_each_selector_at_its_ratio_and_score() -> None:
    root = drawn(plot_str, compared())
    (ifd,), (whisperer_,) = (marked(root, f"point-0-{place}")[f"point-0-{place}"] for place in (1, 0))
    assert valued(root, "x", [ifd[0], whisperer_[0]], log=True) == pytest.approx([0.2, 0.75], rel=1e-3)
    assert valued(root, "y", [ifd[1], whisperer_[1]]) == pytest.approx([0.31, 0.28], rel=1e-3)
    assert len(marked(root, "point-")) == 2  # random and full are lines
    told = texts(root)
    assert {"ifd", "data_whisperer", "random", "full", "Pareto front", "STR (seconds)", "rouge_l ↑"} <= set(told)
    assert "zero_shot" not in told
    assert "100 rows" in " ".join(told)


def test_the_pareto_front_begins_with_random_and_knows_the_metrics_direction() -> None:
    records = compared()
    by_run = {record.run: record for record in records}
    (trade,) = trades(table(records), by_run, "rouge_l")
    assert [point.label for point in trade.front] == ["random", "ifd"]
    turned = [
        made(one.selector, select=(one.spent("selection", "seconds"), 1.0), metrics={"nll": (value, 0.1)})
        for one, value in zip(records, (2.0, 2.5, 1.5, 1.0, 3.0), strict=True)
    ]
    (trade,) = trades(table(turned), {record.run: record for record in turned}, None)
    assert [point.label for point in trade.front] == ["random", "data_whisperer"]


def test_budgets_have_panels_and_what_costs_nothing_lies_at_the_edge() -> None:
    records = [*compared(), scored("longest_response", 0.3, rows=50, select=(0.0, 0.0)), scored("ifd", 0.2, rows=50)]
    found = plot_str(table(records), {record.run: record for record in records}, None)
    root = read(found)
    assert len(marked(root, "point-0-")) == len(marked(root, "point-1-")) == 2
    assert "≤ 0.001" in texts(root)
    assert found is not None
    assert found.notes == ("error bars: standard error over the test rows of one run",)


def test_an_estimated_ratio_says_so_and_flop_stands_in_for_unknown_seconds() -> None:
    estimated = [record for record in compared() if record.selector != "full"]
    assert "STR (seconds, estimated)" in texts(drawn(plot_str, estimated))
    elsewhere = {"hardware.cpu": {"selection": ["B"], "training": ["Test CPU"], "evaluation": ["Test CPU"]}}
    ifd = made("ifd", select=(40.0, 1e15))
    apart = dataclasses.replace(ifd, data={**ifd.data, "environments_differ": elsewhere})
    records = [apart, made("full")]
    root = read(plot_str(table(records, allow_mixed=True), {record.run: record for record in records}, None))
    assert "STR (FLOP)" in texts(root)
    assert valued(root, "x", [marked(root, "point-")["point-0-0"][0][0]], log=True) == pytest.approx([0.2], rel=1e-3)


def test_some_estimates_are_named() -> None:
    elsewhere = [scored("lp", 0.2, rate=2e-4), scored("full", 0.4, train_seconds=200.0), scored("ifd", 0.3)]
    records = [*elsewhere, scored("random", 0.1)]  # of tuning at another rate nothing was timed in full
    found = plot_str(table(records), {record.run: record for record in records}, None)
    assert found is not None
    assert "STR (seconds, some estimated)" in texts(read(found))
    (note,) = [note for note in found.notes if "estimated" in note]
    assert note.startswith("STR estimated: lp: dialogsum")


def test_what_has_no_score_is_told() -> None:
    only = scored("lp", 0.2, rows=50)
    only = dataclasses.replace(only, data={**only.data, "metrics": {}, "artefacts": {**only.data["artefacts"]}})
    chosen = with_(only, artefacts={"evaluation": None})
    records = [*compared(), scored("ifd", 0.2, rows=50), chosen]
    by_run = {record.run: record for record in records}
    for plot in (plot_str, plot_budget):
        found = plot(table(records), by_run, None)
        assert found is not None
        assert [note for note in found.notes if note.startswith("not shown, no rouge_l: lp (chosen only): dialogsum")]


def test_several_seeds_are_a_mean_with_its_error() -> None:
    values = (0.2, 0.3, 0.4)
    records = [scored("ifd", value, seed=seed) for seed, value in enumerate(values)]
    records += [scored("full", 0.5)]
    (trade,) = trades(table(records), {record.run: record for record in records}, None)
    (point,) = trade.points
    assert (point.score.value, point.score.stderr) == pytest.approx((0.3, 0.1 / math.sqrt(3)))
    found = plot_str(table(records), {record.run: record for record in records}, None)
    assert found is not None
    assert found.notes == ("error bars of several seeds: standard error of the mean over seeds",)
    assert valued(read(found), "y", [marked(read(found), "point-0-")["point-0-0"][0][1]]) == pytest.approx([0.3])


def test_without_colours_all_that_is_compared_is_told_apart() -> None:
    many = marks([str(number) for number in range(2 * len(SHAPES))])
    assert len({(mark.shape, mark.filled) for mark in many.values()}) == len(many)
    rates = [scored(name, 0.4, rate=rate) for name in ("full", "random") for rate in (1e-4, 2e-4, 3e-4)]
    records = [*rates, scored("ifd", 0.3)]
    (trade,) = trades(table(records), {record.run: record for record in records}, None)
    levels = level_marks(trade.levels)
    assert len(levels) == 6
    assert len({(mark.line, mark.shape, mark.width) for mark in (*levels.values(), FRONT)}) == 7
    root = drawn(plot_str, records)
    assert set(levels) < {" ".join(text.split()) for text in texts(root)}


def test_lines_join_what_differs_in_its_budget_alone() -> None:
    slow, fast = {"rate": 1e-4}, {"rate": 2e-4}
    # At 50 and at 200 rows the table calls both plainly ifd, at 100 rows it names the rates.
    records = [
        scored("ifd", 0.1, rows=50, **slow),
        scored("ifd", 0.2, rows=100, **slow),
        scored("ifd", 0.3, rows=100, **fast),
        scored("ifd", 0.4, rows=200, **fast),
    ]
    (growth,) = growths(table(records), {record.run: record for record in records}, None)
    assert {label: {k: score.value for k, score in line.items()} for label, line in growth.series.items()} == {
        "ifd (training.learning_rate=0.0001)": {50: 0.1, 100: 0.2},
        "ifd (training.learning_rate=0.0002)": {100: 0.3, 200: 0.4},
    }
    one_each = [records[0], records[3]]
    assert growths(table(one_each), {record.run: record for record in one_each}, None) == []


def test_budget_shows_every_score() -> None:
    scores = {50: 0.2, 100: 0.3, 200: 0.35}
    records = [scored("ifd", value, rows=rows) for rows, value in scores.items()]
    records += [scored("random", 0.25, rows=100), scored("full", 0.4), scored("zero_shot", 0.1)]
    root = drawn(plot_budget, records)
    assert set(ticks(root, "x")) == {"50", "100", "200"}
    series = marked(root, "series-0-")
    by_size = {len(places): places for places in series.values()}
    assert set(by_size) == {1, 3}
    assert valued(root, "y", [y for _, y in by_size[3]]) == pytest.approx(list(scores.values()), rel=1e-3)
    assert {"ifd", "random", "full", "zero_shot", "budget (rows)", "rouge_l ↑"} <= set(texts(root))
    by_run = {record.run: record for record in compared()}
    assert plot_budget(table(compared()), by_run, None) is None


def test_cost_adds_up_by_stage() -> None:
    spent = {"represent/a": 10.0, "represent/b": 20.0, "score/c": 9.5}
    ifd = made("ifd", select=(39.5, 1e15))
    stages = {name: cost(seconds, 0.0) for name, seconds in spent.items()}
    ifd = with_(ifd, cost={"selection": {**ifd.data["cost"]["selection"], "stages": stages}})
    twice = [made("lp", rows=rows, select=(seconds, 1.0)) for rows, seconds in ((50, 100.0), (100, 200.0))]
    records = [ifd, *twice, made("miwv", select=(7.0, 1.0)), made("miwv", rows=50, select=(7.0, 1.0)), made("full")]
    by_run = {record.run: record for record in records}
    root = read(plot_cost(table(records), by_run))
    told = texts(root)
    assert {"represent", "score", "selection", "39.5", "7", "100", "200", "selection (seconds)"} <= set(told)
    assert [name for name in told if name.startswith(("ifd", "lp", "miwv"))] == [
        "miwv",
        "ifd",
        "lp, 50 rows",
        "lp, 100 rows",
    ]
    assert "full" not in told


def test_layers_in_order_with_what_they_are_compared_with() -> None:
    root = drawn(plot_layers, planned())
    assert list(ticks(root, "x")) == ["5", "13", "30"]
    (places,) = marked(root, "curve-").values()
    assert [round(value) for value in valued(root, "x", [x for x, _ in places])] == [5, 13, 30]
    assert valued(root, "y", [y for _, y in places]) == pytest.approx([0.2, 0.3, 0.25], rel=1e-3)
    assert {"100 rows", "random", "default layer", "without attention"} <= set(texts(root))
    records = planned()
    (found,) = layers(table(records), {record.run: record for record in records}, None)
    assert {name: score.value for name, score in found.curves[0].levels.items()} == {
        "random": 0.21,
        "default layer": 0.29,
        "without attention": 0.22,
    }


def test_several_curves_have_marks_on_the_lines_they_are_compared_with() -> None:
    fewer = [with_(one, budget={"rows": 50}) for one in planned()]
    fewer = [dataclasses.replace(one, data={**one.data, "run": f"50{one.run[2:]}"}) for one in fewer]
    records = [*planned(), *(with_(one, artefacts={"evaluation": f"evaluate/{one.run}"}) for one in fewer)]
    found = plot_layers(table(records), {record.run: record for record in records}, None)
    assert found is not None
    assert [note for note in found.notes if "at the right, the mark of their curve" in note]
    (axes,) = found.figure.axes
    ends = [line.get_marker() for line in axes.lines if list(line.get_xdata()) == [1]]
    assert sorted(ends) == sorted([*SHAPES[:2]] * 3)


def test_of_several_results_of_one_setting_the_first_is_shown_and_the_others_are_told() -> None:
    twice = whisperer(0.4, n_d=5)
    twice = dataclasses.replace(twice, data={**twice.data, "run": f"ff{twice.run[2:]}"})
    records = [*planned(), with_(twice, artefacts={"evaluation": "evaluate/ff"})]
    by_run = {record.run: record for record in records}
    for plot in (plot_grid, plot_layers):
        found = plot(table(records), by_run, None)
        assert found is not None
        (note,) = [note for note in found.notes if note.startswith("not shown, further results of one setting: ")]
        assert f"run {records[-1].run[:8]}" in note
    assert "0.400" not in texts(drawn(plot_grid, records))


def test_layers_of_runs_that_only_chose_are_compared_by_their_rankings() -> None:
    ranking = [1.0, 2.0, 3.0, 4.0]
    records = [
        whisperer(places=ranking),
        whisperer(places=[2.0, 1.0, 4.0, 3.0], layer=5),
        whisperer(places=ranking[::-1], layer=13),
    ]
    by_run = {record.run: record for record in records}
    (found,) = layers(table(records), by_run, None)
    assert found.metric == CORRELATION
    assert {layer: score.value for layer, score in found.curves[0].scores.items()} == pytest.approx({5: 0.6, 13: -1})
    assert layers(table(records[1:]), by_run, None) == []  # no run of the default layer


def test_a_grid_holds_the_scores_of_its_pairs() -> None:
    told = texts(drawn(plot_grid, planned()))
    assert {"0.290", "0.270", "0.260", "±0.013", "queries a prompt (n_q)", "demonstrations (n_d)"} <= set(told)
    assert not {"0.300", "0.220", "0.210"} & set(told)  # other layers and weights are other settings


def test_agreement_shows_each_pair_once() -> None:
    told = texts(read(plot_agreement(ranked())))
    assert sorted(one for one in told if re.fullmatch(r"-?[01]?\.\d\d", one)) == ["-.60", "-1.00", ".60"]
    assert {"2 low_ppl", "3 ifd", "1", "2"} <= set(told)


def test_no_correlation_is_a_dash_that_is_explained_and_nothing_has_no_sign() -> None:
    found, plain = plot_agreement([*ranked(), chose("lp", [2, 2, 2, 2])]), plot_agreement(ranked())
    assert found is not None
    assert found.notes[1:] == ("-: none; fewer than three rows that both rank, or all of one tied",)
    assert "-" in texts(read(found))
    assert plain is not None
    assert len(plain.notes) == 1
    # Squared differences of 456 between 14 ranks: -0.002.
    mixed = [5, 7, 6, 14, 11, 3, 12, 8, 2, 10, 4, 1, 9, 13]
    assert ".00" in texts(read(plot_agreement([chose("ifd", list(range(1, 15))), chose("lp", mixed)])))


def test_kinds_show_shares_and_intervals() -> None:
    found = plot_kinds([planted("random", FEW, clean=8, wrong_response=2), planted("high_ppl", FEW, wrong_response=10)])
    assert found is not None
    (box,) = found.figure.subfigs
    by_kind = {axes.get_title(): axes for axes in box.axes}
    assert list(by_kind) == ["clean", "copy", "wrong response"]
    random, high = by_kind["wrong response"].containers
    exact = share(2, 10)
    ((low, _), (up, _)) = random.lines[2][0].get_segments()[0]
    assert (low, up) == pytest.approx((100 * exact.low, 100 * exact.high))
    assert [line.lines[0].get_xdata()[0] for line in (random, high)] == [20, 100]
    assert list(by_kind["wrong response"].lines[0].get_xdata()) == [20, 20]  # the pool's share
    root = read(found)
    assert len(marked(root, "share-0-")) == 6
    assert {"random", "high_ppl", "wrong response"} <= set(texts(root))


def test_perplexity_as_records_tell_it_is_averaged_over_seeds() -> None:
    records = [
        perplexities("random", 4.0, 8.0, 12.0),
        perplexities("random", 6.0, 10.0, 12.0, seed=1),
        perplexities("ifd", 2.0, 3.0, 5.0),
    ]
    given, alone = spreads(records)
    assert given.chosen == {"random": (5.0, 9.0, 12.0), "ifd": (2.0, 3.0, 5.0)}
    assert given.pool == (4.0, 8.0, 12.0)
    assert list(alone.chosen) == ["random"]
    assert alone.untold == ("ifd",)
    found = plot_perplexity(records)
    assert found is not None
    assert any("ifd" in note for note in found.notes)
    root = read(plot_perplexity([record for record in records if record.selector != "ifd"][:1]))
    assert len(marked(root, "median-")) == 2
    told = " ".join(texts(root))
    assert "perplexity under smollm2-135m: responses given the prompt" in told
    assert "perplexity under smollm2-135m: responses alone" in told


def test_percentiles_of_what_was_chosen_by_hand() -> None:
    # low_ppl ranks the four rows 2, 1, 4, 3: their percentiles are 37.5, 12.5, 87.5, 62.5.
    (found,) = spreads(ranked())
    assert found.percentiles
    assert found.chosen["low_ppl"] == (12.5, 12.5, 37.5)
    assert found.chosen["random"] == (12.5, 12.5, 37.5)
    assert found.chosen["ifd"] == (62.5, 62.5, 87.5)
    longest = [*ranked(), chose("longest_response", [1, 2, 3, 4], ["a", "b"])]
    by_length = next(one for one in spreads(longest) if one.quantity == "response length")
    assert by_length.chosen["longest_response"] == (62.5, 62.5, 87.5)
    assert by_length.chosen["ifd"] == (12.5, 12.5, 37.5)


def test_rows_that_tie_at_the_cut_are_chosen_by_chance() -> None:
    def chances(places: Sequence[float | None], ties: int) -> list[float] | None:
        found = chances_of(with_(chose("ifd", places), selection={"ties_at_cut": ties}))
        return None if found is None else list(found)

    assert chances([1.0, 3.0, 3.0, 3.0], ties=3) == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])
    # A record that holds a part of the pool only: the fourth of those that tie is not in it.
    assert chances([1.0, 3.0, 3.0, 3.0], ties=4) is None
    assert chances([1.0, None, 2.0, 3.0], ties=0) == [1, 0, 1, 0]
