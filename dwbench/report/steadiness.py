"""How far a selector agrees with itself under other seeds, from records alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from dwbench.records import Record
from dwbench.report.agreement import each_selection_once, placed, spearman
from dwbench.report.formats import MISSING, WIDE, Column, Grid, draw
from dwbench.report.labels import by_method, by_pool


@dataclass(frozen=True)
class Steadiness:
    """Selectors that chose as many rows of one pool under several seeds.

    Attributes:
        title: data set, tuned model, budget and pool.
        labels: the selectors, with what tells those of one name apart.
        seeds: how many seeds of each.
        spearman: correlation of the rankings of the pool under two of them, mean over the pairs of which it is known,
            or NaN.
        overlap: share of the rows chosen under one seed that another chose too, mean over all pairs.
        expected: overlap of two independent draws of that size.
    """

    title: str
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    spearman: tuple[float, ...]
    overlap: tuple[float, ...]
    expected: float


def steadiness(records: Sequence[Record]) -> list[Steadiness]:
    """One for each pool, tuned model and number of rows of which a selector chose under several seeds."""
    several = [
        one
        for _, group in by_pool(placed(records), _rows, _title)
        for _, chosen in by_method(group)
        if len({record.seed for record in chosen}) > 1
        for one in each_selection_once(chosen)
    ]
    return [_steadiness(title, by_method(group)) for title, group in by_pool(several, _rows, _title)]


def _rows(record: Record) -> dict[str, Any]:
    return {"rows": record.rows}


def _title(record: Record) -> str:
    return f"{record.dataset}, {record.model}: {record.rows} of {record.data['budget']['pool']} rows"


def _steadiness(title: str, methods: Sequence[tuple[str, Sequence[Record]]]) -> Steadiness:
    first = methods[0][1][0]
    every = [[pair for pair in combinations(chosen, 2) if pair[0].seed != pair[1].seed] for _, chosen in methods]
    return Steadiness(
        title=title,
        labels=tuple(name for name, _ in methods),
        seeds=tuple(len({one.seed for one in chosen}) for _, chosen in methods),
        spearman=tuple(_mean([_correlation(one, other) for one, other in pairs]) for pairs in every),
        overlap=tuple(_mean([_overlap(one, other) for one, other in pairs]) for pairs in every),
        expected=first.rows / first.data["budget"]["pool"],
    )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _correlation(one: Record, other: Record) -> float:
    return spearman(*(np.array(record.data["selection"]["places"], dtype=np.float64) for record in (one, other)))


def _overlap(one: Record, other: Record) -> float:
    chosen = set(one.data["selection"]["ids"])
    return len(chosen & set(other.data["selection"]["ids"])) / max(1, len(chosen))


def render(found: Sequence[Steadiness], form: str) -> str:
    """A table for each pool as text, md or latex."""
    return draw([_grid(one) for one in found], [], form, width=WIDE)


def _grid(one: Steadiness) -> Grid:
    columns = (
        Column("selector", one.labels),
        Column("seeds", tuple(str(count) for count in one.seeds)),
        Column("rank correlation", tuple(MISSING if np.isnan(value) else f"{value:.2f}" for value in one.spearman)),
        Column("overlap", tuple(f"{value:.2f}" for value in one.overlap)),
    )
    return Grid(f"{one.title}: pairs of seeds, on average (overlap of two random choices: {one.expected:.2f})", columns)
