"""Data Whisperer's settings: the attention layer, and demonstrations and queries in a prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dwbench.component import canonical_json
from dwbench.records import Record
from dwbench.report.agreement import spearman
from dwbench.report.formats import arrow, decimals, one_score
from dwbench.report.labels import told_apart
from dwbench.report.plots.quality import shown_metric
from dwbench.report.plots.style import (
    GREY,
    Mark,
    Panel,
    Plot,
    draw,
    error_bars,
    marks,
    paint_cells,
    plot_level,
    plot_scores,
)
from dwbench.report.table import Row, Score, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

FIELDS = frozenset({"layer", "n_d", "n_q", "weight"})
"""By these a record's selector is known for Data Whisperer, whatever its configuration is called."""

CORRELATION = "rank correlation with the default layer"
LINES = {"random": "--", "default layer": "-.", "without attention": ":"}


@dataclass(frozen=True)
class Curve:
    """Scores by layer at one budget, and those of `LINES` that there are, to compare with."""

    label: str
    scores: Mapping[int, Score]
    levels: Mapping[str, Score]


@dataclass(frozen=True)
class Layers:
    """The curves of one section, by a metric, or by `CORRELATION` where nothing was tuned."""

    title: str
    metric: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Pairs:
    """Scores by n_d and n_q at one budget; a pair that was not run is not in it."""

    title: str
    metric: str
    scores: Mapping[tuple[int, int], Score]


class _Setting(NamedTuple):
    """A row of a table and its first record."""

    row: Row
    record: Record

    @property
    def fields(self) -> Mapping[str, Any]:
        fields: Mapping[str, Any] = self.record.data["selector"]["identity"]
        return fields

    @property
    def whisperer(self) -> bool:
        return self.fields.keys() >= FIELDS

    def footing(self) -> dict[str, Any]:
        """What must be equal of two settings that are compared."""
        training = self.record.training
        return {
            "rows": self.record.rows,
            "training": None if training is None else [training["version"], training["identity"]],
            "evaluation": self.record.data["evaluation"],
        }

    def without(self, *names: str) -> dict[str, Any]:
        """All that determines the row's numbers but the selector's fields `names`."""
        selector = {name: value for name, value in self.fields.items() if name not in names}
        data = self.record.data
        told = {"selector": {"version": data["selector"]["version"], **selector}, "scorer": data["scorer"]}
        return {**self.footing(), **told}


def layers(table: Table, records: Mapping[str, Record], metric: str | None) -> list[Layers]:
    """One for each section with two layers (the default is one), all else equal. `records` by run.

    Of runs that only chose: how far each layer's ranking of the pool agrees with the default layer's.
    """
    found = []
    for section in table.sections:
        name = shown_metric(section, metric)
        curves = _curves(section, records, name) if name or metric is None else []
        if curves:
            found.append(Layers(section.title, name or CORRELATION, tuple(curves)))
    return found


def _curves(section: Section, records: Mapping[str, Record], metric: str | None) -> list[Curve]:
    several = []
    for group in _alike(_settings(section, records), "layer"):
        by_layer = {one.fields["layer"]: one for one in group}
        default = by_layer.pop(None, None)
        if metric:
            scores = {layer: one.row.scores[metric] for layer, one in by_layer.items() if metric in one.row.scores}
        else:
            scores = _correlations(by_layer, default, records)
        if scores and len(group) > 1:
            levels = _levels(section, group[0], default, records, metric) if metric else {}
            several.append((group[0], dict(sorted(scores.items())), levels))
    labels = told_apart(
        [f"{one.record.rows:,} rows" for one, _, _ in several],
        [one.without("layer") for one, _, _ in several],
        [one.record.run for one, _, _ in several],
    )
    return [Curve(label, scores, levels) for label, (_, scores, levels) in zip(labels, several, strict=True)]


def _correlations(
    by_layer: Mapping[int, _Setting], default: _Setting | None, records: Mapping[str, Record]
) -> dict[int, Score]:
    """Means over the seeds that a layer's and the default layer's runs share."""
    if default is None:
        return {}
    reference = _places(default, records)
    found = {}
    for layer, one in by_layer.items():
        mine = _places(one, records)
        common = sorted(mine.keys() & reference.keys())
        if common:
            values = [spearman(mine[seed], reference[seed]) for seed in common]
            found[layer] = Score(float(np.mean(values)), None, n=len(mine[common[0]]), seeds=len(common))
    return found


def _places(setting: _Setting, records: Mapping[str, Record]) -> dict[int, np.ndarray]:
    """Places of the pool's rows by seed, [rows]."""
    told = {records[run].seed: records[run].data["selection"].get("places") for run in setting.row.runs}
    return {seed: np.array(places, dtype=np.float64) for seed, places in told.items() if places}


def _levels(
    section: Section, setting: _Setting, default: _Setting | None, records: Mapping[str, Record], metric: str
) -> dict[str, Score]:
    """What a curve of settings like this one is compared with."""
    rows = [_Setting(row, records[row.runs[0]]) for row in section.rows if metric in row.scores]
    alike = [one for one in rows if one.footing() == setting.footing()]
    whisperers = [one for one in alike if one.whisperer and one.fields["weight"] == "uniform"]
    even = [one for one in whisperers if one.without("layer", "weight") == setting.without("layer", "weight")]
    found = {
        "random": [one for one in alike if one.record.selector == "random"],
        "default layer": [default] if default and metric in default.row.scores else [],
        "without attention": even,
    }
    return {name: one.row.scores[metric] for name, ones in found.items() for one in ones[:1]}


def pairs(table: Table, records: Mapping[str, Record], metric: str | None) -> list[Pairs]:
    """One for each section and budget with two pairs of n_d and n_q, all else equal. `records` by run."""
    several = []
    for section in table.sections:
        if (name := shown_metric(section, metric)) is None:
            continue
        for group in _alike(_settings(section, records), "n_d", "n_q"):
            scores = {
                (int(one.fields["n_d"]), int(one.fields["n_q"])): one.row.scores[name]
                for one in group
                if name in one.row.scores
            }
            if len(scores) > 1:
                several.append((section, group[0], name, scores))
    titles = told_apart(
        [f"{section.title}: {one.record.rows:,} rows" for section, one, _, _ in several],
        [one.without("n_d", "n_q") for _, one, _, _ in several],
        [one.record.run for _, one, _, _ in several],
    )
    return [Pairs(title, name, scores) for title, (_, _, name, scores) in zip(titles, several, strict=True)]


def _settings(section: Section, records: Mapping[str, Record]) -> list[_Setting]:
    """Those of Data Whisperer; of several results of one setting the first."""
    every = [_Setting(row, records[row.runs[0]]) for row in section.rows]
    different: dict[str, _Setting] = {}
    for one in every:
        if one.whisperer:
            different.setdefault(canonical_json(one.without()), one)
    return list(different.values())


def _repeated(table: Table, records: Mapping[str, Record]) -> list[str]:
    """What is not shown as it is a further result of a setting, by one note a section."""
    told = []
    for section in table.sections:
        shown = {one.row.runs for one in _settings(section, records)}
        every = [_Setting(row, records[row.runs[0]]) for row in section.rows]
        further = [one.row.label for one in every if one.whisperer and one.row.runs not in shown]
        if further:
            told.append(f"not shown, further results of one setting: {', '.join(further)}: {section.title}")
    return told


def _alike(settings: Sequence[_Setting], *names: str) -> list[list[_Setting]]:
    """Settings in groups that differ in the selector's fields `names` only."""
    groups: dict[str, list[_Setting]] = {}
    for one in settings:
        groups.setdefault(canonical_json(one.without(*names)), []).append(one)
    return list(groups.values())


def plot_layers(table: Table, records: Mapping[str, Record], metric: str | None) -> Plot | None:
    """Scores over the attention layer, a panel a section; None where no two layers can be compared."""
    found = layers(table, records, metric)
    if not found:
        return None
    by_label = marks([curve.label for one in found for curve in one.curves], line="-")
    compared = {name for one in found for curve in one.curves for name in curve.levels}
    levels = [Mark(name, GREY, line=line) for name, line in LINES.items() if name in compared]
    panels = [
        Panel(one.title, 2.1, partial(_draw_layers, found=one, by_label=by_label, number=number))
        for number, one in enumerate(found)
    ]
    scores = [score for one in found for curve in one.curves for score in curve.scores.values()]
    several = bool(levels) and any(len(one.curves) > 1 for one in found)
    told = ["lines for comparison have the colour and, at the right, the mark of their curve"] if several else []
    return Plot(draw(panels, [*by_label.values(), *levels]), (*error_bars(scores), *told, *_repeated(table, records)))


def _draw_layers(box: "SubFigure", found: Layers, by_label: Mapping[str, Mark], number: int) -> None:
    axes = box.subplots()
    for place, curve in enumerate(found.curves):
        mark = by_label[curve.label]
        for name, score in curve.levels.items():
            shape = mark.shape if len(found.curves) > 1 else ""
            plot_level(axes, score.value, replace(mark, label=name, shape=shape, line=LINES[name]))
        plot_scores(axes, list(curve.scores), list(curve.scores.values()), mark, name=f"curve-{number}-{place}")
    every = sorted({layer for curve in found.curves for layer in curve.scores})
    shown = every[:: 1 + len(every) // 12]
    axes.set_xticks(shown, [str(layer) for layer in shown])
    axes.set_xlabel("attention layer, from 0")
    axes.set_ylabel(f"{found.metric} {arrow(found.metric)}".strip())


def plot_grid(table: Table, records: Mapping[str, Record], metric: str | None) -> Plot | None:
    """Scores by n_d and n_q as a heat map, a panel for each section and budget; None where no two pairs were run."""
    found = pairs(table, records, metric)
    if not found:
        return None
    panels = [
        Panel(f"{one.title}, {one.metric} {arrow(one.metric)}".rstrip(), 1.9, partial(_draw_pairs, found=one))
        for one in found
    ]
    scores = [score for one in found for score in one.scores.values()]
    told = [note.replace("error bars", "±") for note in error_bars(scores)]
    return Plot(draw(panels), (*told, *_repeated(table, records)))


def _draw_pairs(box: "SubFigure", found: Pairs) -> None:
    axes = box.subplots()
    n_d, n_q = (sorted({pair[place] for pair in found.scores}) for place in (0, 1))
    digits = decimals(list(found.scores.values()))
    values = np.full((len(n_d), len(n_q)), np.nan)
    texts = {}
    for (demonstrations, queries), score in found.scores.items():
        cell = n_d.index(demonstrations), n_q.index(queries)
        values[cell] = score.value
        texts[cell] = one_score(score, digits).replace(" ", "\n")
    low, high = np.nanmin(values), np.nanmax(values)
    paint_cells(axes, values, texts, "cividis_r" if arrow(found.metric) == "↓" else "cividis", (low, high))
    axes.set_xticks(range(len(n_q)), [str(value) for value in n_q])
    axes.set_yticks(range(len(n_d)), [str(value) for value in n_d])
    axes.set_xlabel("queries a prompt (n_q)")
    axes.set_ylabel("demonstrations (n_d)")
