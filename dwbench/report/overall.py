"""One ranking over several budgets: the mean of a selector's ranks."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dwbench.report.formats import Column, Grid
from dwbench.report.statistics import ranks


@dataclass(frozen=True)
class Standing:
    """One selector: its rank at each budget (1 the best; equals share the mean of theirs) and their mean."""

    label: str
    ranks: tuple[float, ...]
    mean: float


@dataclass(frozen=True)
class Overall:
    """Selectors that ran at every one of `budgets` (rows), the best mean rank first; `absent`: those that did not."""

    title: str
    budgets: tuple[int, ...]
    standings: tuple[Standing, ...]
    absent: tuple[str, ...]


def over_budgets(title: str, scores: Mapping[int, Mapping[str, float]]) -> Overall | None:
    """The ranking over all budgets; None of fewer than two budgets, or of fewer than two selectors that ran at each.

    Args:
        scores: higher is better; by budget and selector.
    """
    everyone = dict.fromkeys(label for by_label in scores.values() for label in by_label)
    labels = [label for label in everyone if all(label in by_label for by_label in scores.values())]
    if len(scores) < 2 or len(labels) < 2:
        return None
    placed = ranks(np.array([[by_label[label] for label in labels] for by_label in scores.values()]))
    standings = [
        Standing(label, tuple(float(rank) for rank in of_budgets), float(of_budgets.mean()))
        for label, of_budgets in zip(labels, placed.T, strict=True)
    ]
    standings.sort(key=lambda one: (one.mean, one.label))
    return Overall(title, tuple(scores), tuple(standings), tuple(label for label in everyone if label not in labels))


def grid(overall: Overall) -> Grid:
    """The ranking drawn, a column a budget."""
    standings = overall.standings
    columns = [
        Column("selector", tuple(one.label for one in standings)),
        Column("mean\nrank", tuple(f"{one.mean:.2f}" for one in standings)),
    ]
    for place, budget in enumerate(overall.budgets):
        columns.append(Column(f"{budget:,}\nrows", tuple(f"{one.ranks[place]:g}" for one in standings)))
    told = ["Ranks say nothing of how far apart selectors are, nor of chance: see the boards of the budgets."]
    if overall.absent:
        told.append(f"Not at every budget, so not ranked: {', '.join(overall.absent)}.")
    return Grid(overall.title, tuple(columns), below=tuple(told))
