"""The points of the plots: a table's rows as plain data, and the Pareto fronts among them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dwbench.records import PARTS, Record
from dwbench.report.formats import arrow, decimals, one_score
from dwbench.report.page.settings import Setting
from dwbench.report.str_ratio import CHOOSES_NOTHING
from dwbench.report.table import Row

NEXT_TO_NOTHING = 1e-3
"""A cost below this counts as none, and is drawn apart: no log axis reaches 0."""

COSTS = ("seconds", "flop", "total")
"""STR in seconds, STR in FLOP, and the first with tuning on the chosen rows added."""


def rows(setting: Setting) -> list[dict[str, Any]]:
    """The rows of a setting's section, in their order. Of each score: value, standard error, test rows, seeds, and what
    a table writes."""
    by_run = {record.run: record for record in setting.records}
    signs = digits(setting)
    return [_row(row, [by_run[run] for run in row.runs], setting, signs) for row in setting.section.rows]


def digits(setting: Setting) -> dict[str, int]:
    """Decimals that a table gives each metric."""
    section = setting.section
    return {name: decimals(row.scores[name] for row in section.rows if name in row.scores) for name in section.metrics}


def _row(row: Row, records: Sequence[Record], setting: Setting, signs: Mapping[str, int]) -> dict[str, Any]:
    first = records[0]
    untuned = first.training is None
    tuning = 0.0 if untuned and setting.evaluated else row.tuning_ratio
    total = None if row.ratio.seconds is None or tuning is None else row.ratio.seconds + tuning
    return {
        "label": row.label,
        "selector": first.selector,
        "bound": first.selector in CHOOSES_NOTHING,
        "budget": row.budget,
        "seeds": row.seeds,
        "scores": {
            name: [
                rounded(score.value),
                rounded(score.stderr),
                score.n,
                score.seeds,
                one_score(score, signs[name]),
            ]
            for name, score in row.scores.items()
        },
        "cost": {
            name: rounded(value) for name, value in zip(COSTS, (row.ratio.seconds, row.ratio.flop, total), strict=True)
        },
        "estimated": row.ratio.estimated,
        "seconds": rounded(row.selection_seconds),
        "stages": _stages(records),
        "runs": list(row.runs),
    }


def _stages(records: Sequence[Record]) -> dict[str, list[float | None]]:
    """Seconds and FLOP of each kind of stage, means over the runs; nothing is charged to those who choose nothing."""
    sums: dict[str, list[float]] = {}
    for record in records:
        for part in PARTS:
            if part == "selection" and record.selector in CHOOSES_NOTHING:
                continue
            for ref, cost in record.data["cost"][part].get("stages", {}).items():
                name = f"{part}: {ref.split('/')[0]}" if part == "selection" else part
                spent = sums.setdefault(name, [0.0, 0.0])
                spent[0] += cost["seconds"]
                spent[1] += cost["flop"]
    return {name: [rounded(value / len(records)) for value in spent] for name, spent in sorted(sums.items())}


def fronts(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, list[list[int]]]:
    """By cost, for each budget, the rows on its Pareto front from the cheapest on.

    Bounds are no selectors: they are left out, as are rows without that cost. Costs that agree in two digits, or are
    next to nothing, count as equal: clocks tell no more.
    """
    sign = -1.0 if arrow(metric) == "↓" else 1.0
    budgets = dict.fromkeys(row["budget"] for row in rows if not row["bound"])

    def among(budget: int, cost: str) -> list[int]:
        known = [
            position
            for position, row in enumerate(rows)
            if not row["bound"]
            and row["budget"] == budget
            and metric in row["scores"]
            and row["cost"][cost] is not None
        ]
        return pareto(
            known, lambda one: _coarse(rows[one]["cost"][cost]), lambda one: sign * rows[one]["scores"][metric][0]
        )

    return {cost: [front for budget in budgets if (front := among(budget, cost))] for cost in COSTS}


def _coarse(cost: float) -> float:
    return float(f"{cost:.2g}") if cost >= NEXT_TO_NOTHING else 0.0


def pareto(points: Sequence[int], cost: Callable[[int], float], quality: Callable[[int], float]) -> list[int]:
    """Those that no other one beats in cost and quality both, or in one of them at equality of the other; cheapest
    first. Of equal ones the first stays."""
    best, front = -math.inf, []
    for point in sorted(points, key=lambda one: (cost(one), -quality(one))):
        if quality(point) > best:
            best = quality(point)
            front.append(point)
    return front


def rounded(value: float | None) -> float | None:
    """Six significant digits: a page is for looking; None where unknown or not finite."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
