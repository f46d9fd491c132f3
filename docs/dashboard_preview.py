"""Draws what the W&B dashboard shows of one data set, without W&B.

`python docs/dashboard_preview.py RESULTS DATASET OUT.png`. Panels, their places and what is on their axes come from the
report that would be sent, numbers from what would be published of each run. W&B's own look is another one.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dwbench.records import load_records
from dwbench.report.plots.style import Mark, look, marks
from dwbench.tracking import dashboard, run_data

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELL = 0.17
"""Inches of one of the report's cells; it is 24 wide."""

SIGNS = 26
"""Of a selector's label at a bar."""

DPI = 120


@dataclass(frozen=True)
class Run:
    """What W&B knows of a run."""

    config: dict[str, Any]
    summary: dict[str, Any]
    losses: list[tuple[int, float]]

    @property
    def label(self) -> str:
        return str(self.config["selector_label"])

    def value(self, name: str) -> Any:
        """Of `summary:NAME`, `config:NAME.value` or the name of a summary."""
        section, colon, rest = name.partition(":")
        if colon and section == "config":
            return self.config.get(rest.removesuffix(".value"))
        return self.summary.get(rest if colon else name)


def main(results: str, dataset: str, out: str) -> None:
    from matplotlib.figure import Figure

    every = load_records(Path(results))
    known = run_data.ratio_of(every)
    records = [record for record in every if record.dataset == dataset]
    runs = [
        Run(run_data.run_config(record), run_data.run_summary(record, known[record.run]), run_data.losses(record))
        for record in {record.run: record for record in records}.values()
    ]
    blocks = dashboard.report(records, "dwbench", "nobody")._to_model().spec.model_dump(by_alias=True)["blocks"]
    _, grid = [block["metadata"] for block in blocks if block["type"] == "panel-grid"]  # the table of all runs is first
    panels = grid["panelBankSectionConfig"]["panels"]
    rows = max(panel["layout"]["y"] + panel["layout"]["h"] for panel in panels)
    by_label = marks([run.label for run in runs])
    with look():
        figure = Figure(figsize=(24 * CELL * 2, rows * CELL * 1.6), layout="constrained")
        cells = figure.add_gridspec(rows, 24)
        for panel in panels:
            place = panel["layout"]
            axes = figure.add_subplot(cells[place["y"] : place["y"] + place["h"], place["x"] : place["x"] + place["w"]])
            axes.set_title(panel["config"].get("chartTitle") or "", loc="left")
            DRAWN[panel["viewType"]](axes, panel["config"], runs, by_label)
        found = {
            label: handle
            for axes in figure.axes
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(found.values(), found, loc="outside lower center", ncols=3)
        figure.savefig(out, dpi=DPI)


def scatter(axes: "Axes", config: dict[str, Any], runs: Sequence[Run], by_label: dict[str, Mark]) -> None:
    """A point for each run; on a logarithmic axis nothing has no place."""
    for run in runs:
        x, y = run.value(config["xAxis"]), run.value(config["yAxis"])
        if x and y is not None:
            mark = by_label[run.label]
            face = mark.colour if mark.filled else "white"
            axes.plot(
                [x], [y], color=mark.colour, marker=mark.shape, markerfacecolor=face, label=run.label, linestyle=""
            )
    axes.set_xscale("log" if config.get("xAxisLogScale") else "linear")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xlabel(config["xAxis"])
    axes.set_ylabel(config["yAxis"])


def bars(axes: "Axes", config: dict[str, Any], runs: Sequence[Run], by_label: dict[str, Mark]) -> None:
    """Means over the runs of a selector, from the least to the most."""
    (name,) = config["metrics"]
    found = {label: [run.value(name) for run in runs if run.label == label] for label in by_label}
    values = {label: known for label, every in found.items() if (known := [one for one in every if one is not None])}
    for place, known in enumerate(values.values()):
        mean = sum(known) / len(known)
        axes.barh(place, mean, color="#56B4E9", xerr=[[mean - min(known)], [max(known) - mean]], ecolor="black")
    axes.set_yticks(
        range(len(values)), [label if len(label) <= SIGNS else f"{label[:SIGNS]}…" for label in values], fontsize=5
    )
    axes.invert_yaxis()


def parallel(axes: "Axes", config: dict[str, Any], runs: Sequence[Run], by_label: dict[str, Mark]) -> None:
    """A line for each run that has all columns, each column from its least to its most value."""
    names = [column["accessor"] for column in config["columns"]]
    whole = [run for run in runs if all(run.value(name) is not None for name in names)]
    heights = []
    for name in names:
        values = [run.value(name) for run in whole]
        ordered = (
            list(dict.fromkeys(values)) if any(isinstance(value, str) for value in values) else sorted(set(values))
        )
        low, high = ordered[0], ordered[-1]
        if isinstance(low, str):
            heights.append([ordered.index(value) / max(1, len(ordered) - 1) for value in values])
        else:
            heights.append([(value - low) / ((high - low) or 1) for value in values])
            axes.text(len(heights) - 1, -0.04, f"{low:.3g}", ha="center", va="top", fontsize=5)
            axes.text(len(heights) - 1, 1.04, f"{high:.3g}", ha="center", va="bottom", fontsize=5)
    for line, run in zip(zip(*heights, strict=True), whole, strict=True):
        axes.plot(range(len(names)), line, color=by_label[run.label].colour, linewidth=0.8)
    for run, height in zip(whole, heights[0], strict=True):
        axes.text(-0.08, height, run.label.split("(")[0], ha="right", va="center", fontsize=5)
    axes.set_xlim(-1.1, len(names) - 0.7)
    axes.set_xticks(range(len(names)), [name.partition(":")[2].removesuffix(".value") for name in names], fontsize=5)
    axes.tick_params(axis="x", pad=9)
    axes.set_yticks([])


def lines(axes: "Axes", config: dict[str, Any], runs: Sequence[Run], by_label: dict[str, Mark]) -> None:
    for run in runs:
        if run.losses:
            axes.plot(*zip(*run.losses, strict=True), color=by_label[run.label].colour)
    axes.set_xlabel("Step")
    axes.set_ylabel(config["metrics"][0])


DRAWN: dict[str, Callable[["Axes", dict[str, Any], Sequence[Run], dict[str, Mark]], None]] = {
    "Scatter Plot": scatter,
    "Bar Chart": bars,
    "Parallel Coordinates Plot": parallel,
    "Run History Line Plot": lines,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
