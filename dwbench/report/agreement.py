"""How far selectors agree: rank correlation of their scores and overlap of what they choose, from records alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dwbench.records import Record
from dwbench.report.formats import MISSING, Column, markdown_grid, text_grid
from dwbench.report.str_ratio import CHOOSES_NOTHING


@dataclass(frozen=True)
class Agreement:
    """Selectors of one pool, compared in pairs.

    Attributes:
        title: data set, pool and budget.
        labels: the selectors.
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
    """One for each pool, scoring model, seed and budget that several selectors chose from."""
    groups: dict[tuple[object, ...], dict[str, Record]] = {}
    for record in records:
        if record.selector in CHOOSES_NOTHING or record.data["selection"].get("places") is None:
            continue
        data = record.data
        pool = data["dataset"]["fingerprints"]["pool"]
        key = (data["dataset"]["name"], data["model"]["name"], pool, data["budget"]["rows"], data["seed"])
        groups.setdefault(key, {}).setdefault(data["selector"]["label"], record)
    return [_agreement(key, list(group.values())) for key, group in sorted(groups.items(), key=str) if len(group) > 1]


def _agreement(key: tuple[object, ...], records: Sequence[Record]) -> Agreement:
    dataset, model, _, rows, seed = key
    pool = records[0].data["budget"]["pool"]
    places = [np.array(record.data["selection"]["places"], dtype=np.float64) for record in records]
    chosen = [set(record.data["selection"]["ids"]) for record in records]
    return Agreement(
        title=f"{dataset}, {model}: {rows} of {pool} rows, seed {seed}",
        labels=tuple(record.data["selector"]["label"] for record in records),
        spearman=np.array([[spearman(one, other) for other in places] for one in places]),
        overlap=np.array([[len(one & other) / max(1, len(one)) for other in chosen] for one in chosen]),
        expected=float(rows) / pool if isinstance(rows, int) else float("nan"),
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


def render(found: Sequence[Agreement], form: Literal["text", "md"]) -> str:
    """Two matrices for each pool, their columns numbered like their rows."""
    grid = markdown_grid if form == "md" else text_grid
    parts = []
    for one in found:
        correlation = grid(_matrix(one.labels, one.spearman))
        overlap = grid(_matrix(one.labels, one.overlap))
        bold = "**" if form == "md" else ""
        parts += [
            f"{bold}{one.title}: Spearman's rank correlation of the scores{bold}",
            correlation,
            f"{bold}{one.title}: overlap of the choices{bold} (of two random ones: {one.expected:.2f})",
            overlap,
        ]
    return "\n\n".join(parts) + "\n"


def _matrix(labels: Sequence[str], values: np.ndarray) -> list[Column]:
    numbered = [f"{number} {label}" for number, label in enumerate(labels, 1)]
    columns = [
        Column(str(number), tuple(MISSING if np.isnan(value) else f"{value:.2f}" for value in column))
        for number, column in enumerate(values.T, 1)
    ]
    return [Column("selector", tuple(numbered)), *columns]
