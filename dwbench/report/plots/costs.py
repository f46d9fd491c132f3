"""What selecting costs, by stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dwbench.component import canonical_json
from dwbench.records import Record
from dwbench.report.formats import short
from dwbench.report.plots.style import COLOURS, Mark, Panel, Plot, draw, name_rows, rows_height
from dwbench.report.str_ratio import CHOOSES_NOTHING
from dwbench.report.table import Row, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

HATCHES = ("", "////", "....", "xxxx", "----")
ORDER = ("train", "represent", "score", "select")
"""Stages as they follow each other: warm-up tuning, what is computed of the rows, scores, the choice of a set."""


@dataclass(frozen=True)
class Bar:
    """Seconds of a selection by stage: means over the runs of a row."""

    label: str
    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Costs:
    """Bars of one section, the cheapest first."""

    title: str
    bars: tuple[Bar, ...]


def costs(table: Table, records: Mapping[str, Record]) -> list[Costs]:
    """One for each section in which anything was selected. `records` by run.

    A selector that costs the same at several budgets has one bar; otherwise its bars name the budget.
    """
    found = [Costs(section.title, _bars(section, records)) for section in table.sections]
    return [one for one in found if one.bars]


def _bars(section: Section, records: Mapping[str, Record]) -> tuple[Bar, ...]:
    rows = [row for row in section.rows if records[row.runs[0]].selector not in CHOOSES_NOTHING]
    different: dict[str, dict[str, tuple[Row, dict[str, float]]]] = {}
    for row in rows:
        spent = _by_stage([records[run] for run in row.runs])
        different.setdefault(row.label, {}).setdefault(canonical_json(spent), (row, spent))
    bars = [
        Bar(label if len(same) == 1 else f"{label}, {row.budget:,} rows", spent)
        for label, same in different.items()
        for row, spent in same.values()
    ]
    return tuple(sorted(bars, key=lambda bar: (bar.total, bar.label)))


def _by_stage(records: Sequence[Record]) -> dict[str, float]:
    """Mean seconds of the stages of each name."""
    spent: dict[str, float] = {}
    for record in records:
        for stage, cost in record.data["cost"]["selection"]["stages"].items():
            name = stage.partition("/")[0]
            spent[name] = spent.get(name, 0.0) + cost["seconds"] / len(records)
    return spent


def plot_cost(table: Table, records: Mapping[str, Record]) -> Plot | None:
    """Selection seconds as stacked bars, a panel a section; None where nothing was selected."""
    found = costs(table, records)
    if not found:
        return None
    names = {name for one in found for bar in one.bars for name in bar.seconds}
    stages = sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    by_stage = {
        name: Mark(name, COLOURS[place % len(COLOURS)], hatch=HATCHES[place % len(HATCHES)])
        for place, name in enumerate(stages)
    }
    panels = [
        Panel(
            one.title,
            rows_height([bar.label for bar in one.bars]) + 0.1,
            partial(_draw, found=one, by_stage=by_stage),
        )
        for one in found
    ]
    return Plot(draw(panels, list(by_stage.values())), ("the number at a bar: its seconds in all",))


def _draw(box: "SubFigure", found: Costs, by_stage: Mapping[str, Mark]) -> None:
    axes = box.subplots()
    for place, bar in enumerate(found.bars):
        left = 0.0
        for name, mark in by_stage.items():
            seconds = bar.seconds.get(name, 0.0)
            if seconds:
                axes.barh(
                    place,
                    seconds,
                    left=left,
                    height=0.7,
                    color=mark.colour,
                    hatch=mark.hatch,
                    edgecolor="white",
                    linewidth=0,
                )
            left += seconds
        axes.annotate(short(bar.total), (bar.total, place), (2, 0), textcoords="offset points", va="center", fontsize=6)
    name_rows(axes, [bar.label for bar in found.bars])
    axes.set_xlim(0, 1.2 * max(bar.total for bar in found.bars) or 1)
    axes.set_xlabel("selection (seconds)")
