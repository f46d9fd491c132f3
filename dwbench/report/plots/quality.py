"""Quality: against what selecting costs, and by how much is chosen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from dwbench.component import canonical_json
from dwbench.records import Record
from dwbench.report.formats import arrow, short
from dwbench.report.labels import told_apart
from dwbench.report.plots.style import (
    SHAPES,
    Mark,
    Panel,
    Plot,
    draw,
    error_bars,
    marks,
    plot_level,
    plot_scores,
)
from dwbench.report.table import Row, Score, Section, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

FIRST = ("exact_match_strict", "rouge_l")
"""Metrics that are shown unless another one is asked for."""

FLOOR = 1e-3
"""What costs less is drawn here: on a log axis nothing has no place."""

BOUNDS = ("full", "zero_shot")
LINES = {"random": "--", "full": "-", "zero_shot": ":"}
FRONT = Mark("Pareto front", "#BBBBBB", line="-", width=2.2)
"""Pale and broad: also without colours it is none of the lines that are compared with."""
HEIGHT = 2.1


@dataclass(frozen=True)
class Level:
    """A horizontal line: a selector that others are compared with."""

    selector: str
    label: str
    score: Score


@dataclass(frozen=True)
class Point:
    """A selector's STR and score."""

    label: str
    ratio: float
    score: Score


@dataclass(frozen=True)
class Trade:
    """The selectors of one section and budget.

    Attributes:
        unit: of STR; FLOP where the seconds of any are not known.
        estimated: labels of those whose STR is an estimate.
        levels: `random` of this budget, and `full`.
        unknown: labels of those whose STR is not known in either unit.
    """

    title: str
    metric: str
    unit: Literal["seconds", "FLOP"]
    estimated: tuple[str, ...]
    points: tuple[Point, ...]
    levels: tuple[Level, ...]
    unknown: tuple[str, ...]

    @property
    def front(self) -> tuple[Point, ...]:
        """Those, `random` included, that none beats which costs no more; cheapest first."""
        sign = {"↑": 1, "↓": -1}.get(arrow(self.metric), 0)
        free = [Point(level.label, 0.0, level.score) for level in self.levels if level.selector == "random"]
        best: list[Point] = []
        for point in sorted([*free, *self.points], key=lambda one: (one.ratio, -sign * one.score.value)):
            if sign and (not best or sign * point.score.value > sign * best[-1].score.value):
                best.append(point)
        return tuple(best)


@dataclass(frozen=True)
class Growth:
    """Scores of a section by label and budget (rows), `zero_shot` and `full` as levels. What has one label differs in
    nothing but its budget."""

    title: str
    metric: str
    series: Mapping[str, Mapping[int, Score]]
    levels: tuple[Level, ...]

    @property
    def budgets(self) -> list[int]:
        return sorted({budget for scores in self.series.values() for budget in scores})


def headline(metrics: Sequence[str]) -> str | None:
    """The metric that is shown unless another one is asked for; None where of none is known which way it is better."""
    wanted = [name for name in FIRST if name in metrics]
    wanted += [name for name in metrics if arrow(name) == "↑"]
    wanted += [name for name in metrics if arrow(name)]
    return wanted[0] if wanted else None


def shown_metric(section: Section, metric: str | None) -> str | None:
    """`metric`, or the section's own; None where the section has it not."""
    wanted = metric or headline(section.metrics)
    return wanted if wanted in section.metrics else None


def trades(table: Table, records: Mapping[str, Record], metric: str | None) -> list[Trade]:
    """One for each section and budget. `records` by run."""
    found = []
    for section in table.sections:
        if (name := shown_metric(section, metric)) is None:
            continue
        rows = [row for row in section.rows if name in row.scores]
        methods = [row for row in rows if _selector(row, records) not in LINES]
        for budget in dict.fromkeys(row.budget for row in methods):
            same = [row for row in methods if row.budget == budget]
            random = [row for row in rows if _selector(row, records) == "random" and row.budget == budget]
            full = [row for row in rows if _selector(row, records) == "full"]
            levels = [_level(row, name, records) for row in (*random, *full)]
            found.append(_trade(f"{section.title}: {budget:,} rows", name, same, levels))
    return found


def _trade(title: str, metric: str, rows: Sequence[Row], levels: Sequence[Level]) -> Trade:
    seconds = all(row.ratio.seconds is not None for row in rows)
    ratios = [row.ratio.seconds if seconds else row.ratio.flop for row in rows]
    return Trade(
        title=title,
        metric=metric,
        unit="seconds" if seconds else "FLOP",
        estimated=tuple(row.label for row in rows if seconds and row.ratio.estimated),
        points=tuple(
            Point(row.label, ratio, row.scores[metric])
            for row, ratio in zip(rows, ratios, strict=True)
            if ratio is not None
        ),
        levels=tuple(levels),
        unknown=tuple(row.label for row, ratio in zip(rows, ratios, strict=True) if ratio is None),
    )


def growths(table: Table, records: Mapping[str, Record], metric: str | None) -> list[Growth]:
    """One for each section in which a selector has scores at two budgets."""
    found = []
    for section in table.sections:
        if (name := shown_metric(section, metric)) is None:
            continue
        rows = [row for row in section.rows if name in row.scores]
        bounds = [row for row in rows if _selector(row, records) in BOUNDS]
        lines = _lines([row for row in rows if row not in bounds], records)
        if any(len(line) > 1 for line in lines.values()):
            series = {
                label: {row.budget: row.scores[name] for row in line if row.budget is not None}
                for label, line in lines.items()
            }
            levels = tuple(_level(row, name, records) for row in bounds)
            found.append(Growth(section.title, name, series, levels))
    return found


def _lines(rows: Sequence[Row], records: Mapping[str, Record]) -> dict[str, list[Row]]:
    """Rows that differ in their budget alone, by a label. Of several of one budget each stands for itself.

    A table tells rows of one budget apart, so that its labels do not say whether rows of two budgets are alike.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(canonical_json(_setting(records[row.runs[0]])), []).append(row)
    lines = []
    for group in groups.values():
        once = len({row.budget for row in group}) == len(group)
        lines += [group] if once else [[row] for row in group]
    firsts = [line[0] for line in lines]
    labels = told_apart(
        [row.name for row in firsts],
        [_setting(records[row.runs[0]]) for row in firsts],
        [row.runs[0] for row in firsts],
    )
    return dict(zip(labels, lines, strict=True))


def _setting(record: Record) -> dict[str, Any]:
    """All that determines a row's numbers but its budget and seeds."""
    data, training = record.data, record.training
    return {
        "selector": {"version": data["selector"]["version"], **data["selector"]["identity"]},
        "scorer": data["scorer"],
        "embedder": data["embedder"],
        "training": None if training is None else {"version": training["version"], **training["identity"]},
        "evaluation": data["evaluation"],
    }


def _selector(row: Row, records: Mapping[str, Record]) -> str:
    return records[row.runs[0]].selector


def _level(row: Row, metric: str, records: Mapping[str, Record]) -> Level:
    return Level(_selector(row, records), row.label, row.scores[metric])


def plot_str(table: Table, records: Mapping[str, Record], metric: str | None) -> Plot | None:
    """Quality against STR, a panel for each section and budget; None where no selector has a score."""
    found = [trade for trade in trades(table, records, metric) if trade.points]
    if not found:
        return None
    by_label = marks([point.label for trade in found for point in trade.points])
    levels = level_marks([level for trade in found for level in trade.levels])
    every = {**by_label, **levels}
    panels = [
        Panel(trade.title, HEIGHT, partial(_draw_trade, trade=trade, by_label=every, number=number))
        for number, trade in enumerate(found)
    ]
    front = [FRONT] if any(trade.front for trade in found) else []
    scores = [point.score for trade in found for point in trade.points]
    partly = [
        f"STR estimated: {', '.join(trade.estimated)}: {trade.title}"
        for trade in found
        if 0 < len(trade.estimated) < len(trade.points)
    ]
    unknown = [f"not shown, STR unknown: {label}: {trade.title}" for trade in found for label in trade.unknown]
    return Plot(
        draw(panels, [*by_label.values(), *levels.values(), *front]),
        (*error_bars(scores), *partly, *_left_out(table, metric), *unknown),
    )


def plot_budget(table: Table, records: Mapping[str, Record], metric: str | None) -> Plot | None:
    """Quality by budget, a panel a section; None where no selector has scores at two budgets."""
    found = growths(table, records, metric)
    if not found:
        return None
    by_label = marks([label for growth in found for label in growth.series], line="-")
    levels = level_marks([level for growth in found for level in growth.levels])
    panels = [
        Panel(
            growth.title, HEIGHT, partial(_draw_growth, growth=growth, by_label={**by_label, **levels}, number=number)
        )
        for number, growth in enumerate(found)
    ]
    scores = [score for growth in found for each in growth.series.values() for score in each.values()]
    shown = {growth.title for growth in found}
    alone = [
        f"not shown, one budget only: {section.title}"
        for section in table.sections
        if section.title not in shown and shown_metric(section, metric)
    ]
    return Plot(
        draw(panels, [*by_label.values(), *levels.values()]),
        (*error_bars(scores), *_left_out(table, metric), *alone),
    )


def level_marks(levels: Sequence[Level]) -> dict[str, Mark]:
    """A line for each different label: its style says which selector it is, a shape at its end which one of several."""
    by_label = {level.label: level.selector for level in levels}
    found: dict[str, Mark] = {}
    for label, selector in by_label.items():
        place = sum(by_label[other] == selector for other in found)
        shape = SHAPES[-place % len(SHAPES)] if place else ""
        found[label] = Mark(label, "#000000", shape, LINES[selector])
    return found


def _left_out(table: Table, metric: str | None) -> list[str]:
    """Sections and rows without a score to show."""
    told = []
    for section in table.sections:
        name = shown_metric(section, metric)
        without = [row.label for row in section.rows if name not in row.scores]
        if name is None:
            told.append(f"not shown, no {metric or 'metric'}: {section.title}")
        elif without:
            told.append(f"not shown, no {name}: {', '.join(dict.fromkeys(without))}: {section.title}")
    return told


def _draw_trade(box: "SubFigure", trade: Trade, by_label: Mapping[str, Mark], number: int) -> None:
    axes = box.subplots()
    for level in trade.levels:
        plot_level(axes, level.score.value, by_label[level.label])
    for place, point in enumerate(trade.points):
        plot_scores(
            axes, [max(point.ratio, FLOOR)], [point.score], by_label[point.label], name=f"point-{number}-{place}"
        )
    _ratio_axis(axes, [point.ratio for point in trade.points])
    if trade.front:
        right = axes.get_xlim()[1]
        ratios = [max(point.ratio, FLOOR) for point in trade.front]
        values = [point.score.value for point in trade.front]
        axes.step(
            [*ratios, right], [*values, values[-1]], where="post", color=FRONT.colour, linewidth=FRONT.width, zorder=0.9
        )
    axes.set_xlabel(f"STR ({trade.unit}{_estimated(trade)})")
    axes.set_ylabel(f"{trade.metric} {arrow(trade.metric)}".strip())


def _estimated(trade: Trade) -> str:
    if not trade.estimated:
        return ""
    return ", estimated" if len(trade.estimated) == len(trade.points) else ", some estimated"


def _ratio_axis(axes: "Axes", ratios: Sequence[float]) -> None:
    """A log axis from the cheapest to at least 1, where selecting takes as long as tuning on everything."""
    shown = [max(ratio, FLOOR) for ratio in ratios]
    low, high = min(shown) / 1.6, max(1.0, *shown) * 1.6
    steps = (1, 2, 5) if high / low < 100 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    ticks = [tick for decade in decades for step in steps if low <= (tick := step * 10.0**decade) <= high]
    labels = [f"≤ {short(tick)}" if tick <= FLOOR and min(ratios) < FLOOR else short(tick) for tick in ticks]
    axes.set_xscale("log")
    axes.set_xticks(ticks, labels)
    axes.minorticks_off()
    axes.set_xlim(low, high)


def _draw_growth(box: "SubFigure", growth: Growth, by_label: Mapping[str, Mark], number: int) -> None:
    axes = box.subplots()
    for level in growth.levels:
        plot_level(axes, level.score.value, by_label[level.label])
    budgets = growth.budgets
    step = min(0.08, 0.7 / len(growth.series))  # beside each other, so that no error bar hides another
    for place, (label, scores) in enumerate(growth.series.items()):
        aside = (place - (len(growth.series) - 1) / 2) * step
        at = [budgets.index(budget) + aside for budget in scores]
        plot_scores(axes, at, list(scores.values()), by_label[label], name=f"series-{number}-{place}")
    axes.set_xticks(range(len(budgets)), [f"{budget:,}" for budget in budgets])
    axes.set_xlim(-0.5, len(budgets) - 0.5)
    axes.set_xlabel("budget (rows)")
    axes.set_ylabel(f"{growth.metric} {arrow(growth.metric)}".strip())
