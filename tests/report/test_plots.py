"""Plots of made-up records, read back from the SVG: their texts, marks and positions are the records' numbers."""

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from made_records import cost, made

from dwbench.cli import main
from dwbench.commands.plot import LACKS
from dwbench.records import Record
from dwbench.report.kinds import share
from dwbench.report.plots.choices import plot_agreement, plot_kinds
from dwbench.report.plots.costs import plot_cost
from dwbench.report.plots.perplexity import chances_of, plot_perplexity, spreads
from dwbench.report.plots.quality import plot_budget, plot_str, trades
from dwbench.report.plots.settings import CORRELATION, layers, plot_grid, plot_layers
from dwbench.report.plots.style import SETTINGS, Plot, content, look
from dwbench.report.table import Table, table

SVG = "{http://www.w3.org/2000/svg}"
LONG = "attention_influence(probes=16, probe_tokens=512)"


def with_(record: Record, **parts: dict[str, Any]) -> Record:
    """The record with some fields of its parts replaced."""
    changed = {part: {**(record.data[part] or {}), **fields} for part, fields in parts.items()}
    return dataclasses.replace(record, data={**record.data, **changed})


def scored(selector: str, value: float, error: float | None = 0.0125, **options: Any) -> Record:
    return made(selector, metrics={"rouge_l": (value, error)}, **options)


def compared() -> list[Record]:
    """200 s of tuning on everything; STR 0.2 and 0.75, random's is nearly nothing."""
    return [
        scored("random", 0.25, select=(0.001, 0.0)),
        scored("ifd", 0.31, select=(40.0, 1e15)),
        scored("data_whisperer", 0.28, select=(150.0, 4e15)),
        scored("full", 0.4, train_seconds=200.0),
        scored("zero_shot", 0.1, select=(0.0, 0.0)),
    ]


def chose(selector: str, places: Sequence[float | None], ids: Sequence[str] = (), **options: Any) -> Record:
    return with_(made(selector, rows=2, **options), selection={"places": places, "ids": list(ids)})


def ranked() -> list[Record]:
    return [
        chose("random", [1, 2, 3, 4], ["a", "b"]),
        chose("low_ppl", [2, 1, 4, 3], ["b", "a"], scorer="smollm2-135m"),
        chose("ifd", [4, 3, 2, 1], ["d", "c"], scorer="smollm2-135m"),
    ]


def planted(selector: str, **counts: int) -> Record:
    """10 rows of 1,000."""
    kinds = {"clean": 700, "copy": 100, "wrong_response": 200}
    ids = [f"{selector} {kind} {number}" for kind, count in counts.items() for number in range(count)]
    return with_(made(selector, rows=10), dataset={"kinds": kinds}, selection={"kinds": counts, "ids": ids})


def whisperer(value: float | None = None, *, seed: int = 0, places: Sequence[float] = (), **fields: Any) -> Record:
    settings = {"n_d": 10, "n_q": 5, "layer": None, "weight": "attn", **fields}
    told = ", ".join(f"{name}={setting}" for name, setting in fields.items())
    name = f"data_whisperer({told})" if told else "data_whisperer"
    record = made(
        "data_whisperer", label=name, seed=seed, metrics={} if value is None else {"rouge_l": (value, 0.0125)}
    )
    artefacts = {} if value is not None else {"evaluation": None, "training": None}
    changed = with_(record, selector={"identity": settings}, selection={"places": list(places)}, artefacts=artefacts)
    return changed if value is not None else dataclasses.replace(changed, data={**changed.data, "training": None})


def planned() -> list[Record]:
    """Layers, and pairs of n_d and n_q."""
    return [
        whisperer(0.25, layer=30),
        whisperer(0.2, layer=5),
        whisperer(0.3, layer=13),
        whisperer(0.29),
        whisperer(0.22, weight="uniform"),
        whisperer(0.27, n_d=5),
        whisperer(0.26, n_d=5, n_q=3),
        scored("random", 0.21),
    ]


def perplexities(name: str, first: float, median: float, third: float, **options: Any) -> Record:
    pool = {"rows": 1000, "undefined": 0, "mean": 9.0, "quartile_1": 4.0, "median": 8.0, "quartile_3": 12.0}
    chosen = {"rows": 100, "undefined": 0, "mean": 9.0, "quartile_1": first, "median": median, "quartile_3": third}
    nothing = {"rows": 100, "undefined": 100}
    told = {
        "given_prompt": {"chosen": chosen, "pool": pool},
        "alone": {"chosen": nothing if name == "ifd" else chosen, "pool": pool},
    }
    by = {"version": 1, "name": "smollm2-135m", "identity": {}}
    return with_(made(name, **options), selection={"perplexity": told, "perplexity_by": by})


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


def test_kinds_show_shares_and_intervals() -> None:
    found = plot_kinds([planted("random", clean=8, wrong_response=2), planted("high_ppl", wrong_response=10)])
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


def everything() -> list[Record]:
    """Records for every kind of plot, with a label that is too long for one line and a data set of its own for each."""
    long = scored("attention_influence", 0.3, label=LONG, select=(70.0, 1e15))
    return [
        *compared(),
        long,
        *(scored(name, 0.2 + place / 50, rows=50) for place, name in enumerate(("random", "ifd", "data_whisperer"))),
        *(elsewhere(record, "layers") for record in planned()),
        *(
            elsewhere(record, "ranked")
            for record in [*ranked(), chose("attention_influence", [3, 1, 4, 2], label=LONG)]
        ),
        *(
            elsewhere(record, "planted")
            for record in (planted("random", clean=8, copy=1, wrong_response=1), planted("high_ppl", wrong_response=10))
        ),
        *(elsewhere(perplexities(name, 2.0, 3.0, 5.0), "told") for name in ("random", "ifd")),
    ]


def elsewhere(record: Record, name: str) -> Record:
    """The record of another data set."""
    fingerprints = {split: f"{name}-{split}" for split in ("pool", "target", "test")}
    moved = with_(record, dataset={"name": name, "fingerprints": fingerprints})
    return dataclasses.replace(moved, data={**moved.data, "run": f"{record.run[:12]}{abs(hash_of(name)):08x}"})


def hash_of(name: str) -> int:
    return sum(ord(sign) * 31**place for place, sign in enumerate(name)) % 2**31


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all records of `everything`, seen from where the commands run."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results" / "quickstart"
    folder.mkdir(parents=True)
    for number, record in enumerate(everything()):
        (folder / f"{number}.json").write_text(json.dumps(record.data), encoding="utf-8")
    return tmp_path / "results"


@pytest.mark.usefixtures("results")
def test_all_kinds_in_files_of_their_own_and_the_same_bytes_in_another_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", "quickstart"]) == 0
    told = capsys.readouterr().out
    files = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert set(files) == {f"quickstart-{kind}.svg" for kind in LACKS}
    assert all(name in told for name in files)
    assert "left out" not in told
    again = (
        "import sys; from dwbench.cli import main; code = main(['plot', 'quickstart']); "
        "sys.exit(code or any(name in sys.modules for name in ('matplotlib.pyplot', 'torch')))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run([sys.executable, "-c", again], check=True, env=environment, capture_output=True)
    assert files == {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert b"<dc:date>" not in b"".join(files.values())


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_format_is_the_files(tmp_path: Path, form: str, start: bytes) -> None:
    path = tmp_path / f"figure.{form}"
    arguments = ["plot", "--kind", "str", "--out", str(path), "--metric", "rouge_l"]
    assert main(arguments) == 0
    first = path.read_bytes()
    assert first.startswith(start)
    assert main(arguments) == 0
    assert path.read_bytes() == first


@pytest.mark.usefixtures("results")
def test_what_the_records_lack_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "results" / "quickstart").glob("*.json"):
        if json.loads(path.read_text(encoding="utf-8"))["dataset"]["name"] != "ranked":
            path.unlink()
    assert main(["plot"]) == 0
    told = capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("*.svg")} == {
        "all-str.svg",
        "all-cost.svg",
        "all-agreement.svg",
        "all-perplexity.svg",
    }
    for kind in ("budget", "layers", "grid", "kinds"):
        assert f"left out: {kind}: {LACKS[kind]}" in told


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["quickstrat"], "did you mean 'quickstart'?"),
        (["--kind", "pie"], "invalid choice: 'pie'"),
        (["--out", "figure.svg"], "--out: one file takes one plot: name it with --kind str, budget"),
        (["--kind", "str", "--out", "figure.jpg"], "--out figure.jpg: no format for figures: end it in .svg"),
        (["--kind", "str", "--out", "absent/figure.svg"], "there is no folder absent"),
        (["--kind", "str", "--metric", "rouge"], "--metric rouge: no record has it: did you mean 'rouge_l'?"),
        (["--kind", "cost", "--metric", "rouge_l"], "a plot of kind cost shows none"),
        (["--results", "absent"], "absent: no such folder of results"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["plot", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert told in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_kind_without_records_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "one.json").write_text(json.dumps(made("ifd").data), encoding="utf-8")
    assert main(["plot", "--kind", "kinds"]) == 2
    assert f"results: nothing to plot: kinds: {LACKS['kinds']}" in capsys.readouterr().err


def test_the_users_own_settings_neither_count_nor_change() -> None:
    import matplotlib

    records = compared()
    by_run = {record.run: record for record in records}
    before = dict(matplotlib.rcParams)
    plain = plot_str(table(records), by_run, None)
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path"}):
        changed = plot_str(table(records), by_run, None)
        assert plain is not None
        assert changed is not None
        assert content(plain.figure, "svg") == content(changed.figure, "svg")
    assert dict(matplotlib.rcParams) == before
    assert SETTINGS["svg.fonttype"] == "none"


@pytest.mark.parametrize("kind", LACKS)
def test_no_text_lies_on_another_or_off_the_page(kind: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    records = everything()
    by_run = {record.run: record for record in records}
    found = {
        "str": lambda: plot_str(table(records), by_run, None),
        "budget": lambda: plot_budget(table(records), by_run, None),
        "cost": lambda: plot_cost(table(records), by_run),
        "layers": lambda: plot_layers(table(records), by_run, None),
        "grid": lambda: plot_grid(table(records), by_run, None),
        "agreement": lambda: plot_agreement(records),
        "kinds": lambda: plot_kinds(records),
        "perplexity": lambda: plot_perplexity(records),
    }[kind]()
    assert found is not None
    figure = found.figure
    with look():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        boxes = {text: text.get_window_extent() for text in visible_texts(figure)}
    page = figure.bbox
    told = list(boxes.items())
    assert len(told) > 5
    for place, (text, box) in enumerate(told):
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
        assert inside, f"{text.get_text()!r} leaves the page: {box}"
        for other, another in told[place + 1 :]:
            wide = min(box.x1, another.x1) - max(box.x0, another.x0)
            high = min(box.y1, another.y1) - max(box.y0, another.y0)
            assert wide <= 0.5 or high <= 0.5, f"{text.get_text()!r} on {other.get_text()!r}"


def visible_texts(figure: Any) -> list[Any]:
    """All texts that are drawn: of the ticks those within their axis."""
    from matplotlib.text import Text

    hidden = set()
    for axes in figure.findobj(lambda artist: hasattr(artist, "get_xaxis")):
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            near = 1e-9 * math.fabs(high - low)
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not min(low, high) - near <= tick.get_loc() <= max(low, high) + near:
                    hidden |= {tick.label1, tick.label2}
    texts_ = [text for text in figure.findobj(Text) if text not in hidden]
    return [text for text in texts_ if text.get_visible() and text.get_text().strip() and text.get_alpha() != 0]
