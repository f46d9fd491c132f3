"""How far selectors agree: rank correlation of their scores and overlap of what they choose, from records alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dwbench.component import canonical_json
from dwbench.records import Record
from dwbench.report.formats import MISSING, WIDE, Column, Grid, draw
from dwbench.report.labels import grouped, label, names_of, pool_identity, selection_identity
from dwbench.report.str_ratio import CHOOSES_NOTHING


@dataclass(frozen=True)
class Agreement:
    """Selectors of one pool, compared in pairs.

    Attributes:
        title: data set, tuned model, budget, pool and seed.
        labels: the selectors, with what tells those of one name apart.
        spearman: correlation of their rankings of the pool, [n, n]; over rows that both can score, NaN below three.
        overlap: share of the rows chosen by one that the other chose too, [n, n]; both chose the same number.
        expected: overlap of two independent draws of that size.
    """

    title: str
    labels: tuple[str, ...]
    spearman: np.ndarray
    overlap: np.ndarray
    expected: float


def agreements(records: Sequence[Record]) -> list[Agreement]:
    """One for each pool, tuned model, budget and seed under which records tell of several selections.

    Records that differ only in what happened after it share one selection: settings of tuning or evaluation. Any others
    are compared; those with one label are told apart.
    """
    every = [each_selection_once(group) for group in grouped(placed(records), _group_identity)]
    several = [group for group in every if len(group) > 1]
    titles = names_of([group[0] for group in several], _group_identity, _title)
    found = [(_place(group[0]), _agreement(title, group)) for group, title in zip(several, titles, strict=True)]
    return [agreement for _, agreement in sorted(found, key=lambda pair: (pair[0], pair[1].title))]


def _group_identity(record: Record) -> dict[str, Any]:
    return {**pool_identity(record), "rows": record.rows, "seed": record.seed}


def placed(records: Sequence[Record]) -> list[Record]:
    """Those that tell where their selector places every row of the pool."""
    return [
        record
        for record in records
        if record.selector not in CHOOSES_NOTHING and record.data["selection"].get("places") is not None
    ]


def each_selection_once(records: Sequence[Record]) -> list[Record]:
    """Of records of one pool and number of rows, one for each selection."""
    # By what came out too: what was computed in two environments may differ.
    by_selection: dict[str, Record] = {}
    for record in records:
        chosen = record.data["selection"]
        came_out = [selection_identity(record), record.seed, chosen["ids"], chosen["places"]]
        by_selection[canonical_json(came_out)] = record
    return list(by_selection.values())


def _title(record: Record) -> str:
    pool = record.data["budget"]["pool"]
    return f"{record.dataset}, {record.model}: {record.rows} of {pool} rows, seed {record.seed}"


def _place(record: Record) -> tuple[str, str, int, int]:
    return record.dataset, record.model, record.rows, record.seed


def _agreement(title: str, records: Sequence[Record]) -> Agreement:
    first = records[0]
    places = [np.array(record.data["selection"]["places"], dtype=np.float64) for record in records]
    chosen = [set(record.data["selection"]["ids"]) for record in records]
    return Agreement(
        title=title,
        labels=tuple(names_of(records, selection_identity, label)),
        spearman=np.array([[spearman(one, other) for other in places] for one in places]),
        overlap=np.array([[len(one & other) / max(1, len(one)) for other in chosen] for one in chosen]),
        expected=first.rows / first.data["budget"]["pool"],
    )


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation over the rows that both rank (no NaN); NaN where fewer than three are left, or
    all of one are tied."""
    from scipy.stats import rankdata

    both = ~np.isnan(one) & ~np.isnan(other)
    if both.sum() < 3:
        return float("nan")
    a, b = rankdata(one[both]), rankdata(other[both])
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm > 0 else float("nan")


def render(found: Sequence[Agreement], form: str) -> str:
    """Two matrices for each pool, their columns numbered like their rows, as text, md or latex."""
    return draw([grid for one in found for grid in _grids(one)], [], form, width=WIDE)


def _grids(one: Agreement) -> list[Grid]:
    correlation = f"{one.title}: Spearman's rank correlation of the scores"
    overlap = f"{one.title}: overlap of the choices (of two random ones: {one.expected:.2f})"
    return [
        Grid(correlation, tuple(_matrix(one.labels, one.spearman))),
        Grid(overlap, tuple(_matrix(one.labels, one.overlap))),
    ]


def _matrix(labels: Sequence[str], values: np.ndarray) -> list[Column]:
    numbered = [f"{number} {name}" for number, name in enumerate(labels, 1)]
    columns = [
        Column(str(number), tuple(MISSING if np.isnan(value) else f"{value:.2f}" for value in column))
        for number, column in enumerate(values.T, 1)
    ]
    return [Column("selector", tuple(numbered)), *columns]
