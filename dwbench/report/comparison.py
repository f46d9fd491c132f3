"""A paper's numbers with ours beside them and the difference. `comparison_view` draws it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dwbench.budget import parse_budget
from dwbench.errors import UserError
from dwbench.report.published import PER_CENT, Published
from dwbench.report.table import Row, Score, Section, Table

BESIDE = {"exact_match_strict": "exact_match_flexible", "str_with_tuning": "str"}
"""What of ours is shown beside a metric, because the two together say what one does not."""


@dataclass(frozen=True)
class Cell:
    """A selector at a budget: ours, ours by another metric (`BESIDE`), the paper's; each None where there is none.

    Attributes:
        selector: the line's heading: a selector, with the paper's method where it has two numbers for one cell.
        estimated: whether ours is a ratio to an estimated time.
        ran: whether a run of ours is this cell's; without `ours` its value is not known.
        several: labels of our rows that match where more than one does: none of them is taken.
        training: what ours was tuned with; several for a mean over budgets that were tuned differently.
    """

    selector: str
    budget: str
    ours: Score | None
    beside: Score | None
    paper: Published | None
    estimated: bool = False
    ran: bool = False
    several: tuple[str, ...] = ()
    training: tuple[str, ...] = ()

    @property
    def difference(self) -> float | None:
        return None if self.ours is None or self.paper is None else self.ours.value - self.paper.value


@dataclass(frozen=True)
class Comparison:
    """One model, data set and metric.

    Attributes:
        title: names our data where there are results.
        budgets: in the paper's order, means last.
        section: our results; None where there are none.
        left_out: ours that have the metric, but stand in no cell: the paper does not have their budget.
    """

    title: str
    model: str
    dataset: str
    metric: str
    budgets: tuple[str, ...]
    section: Section | None
    cells: tuple[Cell, ...]
    left_out: tuple[Cell, ...] = ()


def compare(table: Table, numbers: Sequence[Published]) -> list[Comparison]:
    """Every number beside ours, in the order of `numbers`; then what we have on other data by the same metrics."""
    places = dict.fromkeys((one.model, one.dataset, one.metric) for one in numbers)
    metrics = dict.fromkeys(one.metric for one in numbers)
    places |= dict.fromkeys((one.model, one.dataset, metric) for one in table.sections for metric in metrics)
    comparisons = []
    for model, dataset, metric in places:
        printed = [one for one in numbers if (one.model, one.dataset, one.metric) == (model, dataset, metric)]
        ours: list[Section | None] = [one for one in table.sections if (one.model, one.dataset) == (model, dataset)]
        budgets = dict.fromkeys(one.budget for one in numbers if one.metric == metric)
        budgets = dict.fromkeys(sorted(budgets, key=lambda budget: "+" in budget))
        for section in ours or [None]:
            cells = tuple(_cells(section, printed, metric, list(budgets)))
            title = f"{model}, {dataset}" if section is None else section.title
            left_out = _left_out(section, metric, cells) if section else ()
            if any(cell.ours or cell.paper for cell in cells) or left_out:
                title = f"{title}: {_named(metric)}"
                one = Comparison(title, model, dataset, metric, tuple(budgets), section, cells, left_out)
                comparisons.append(one)
    return comparisons


def _named(metric: str) -> str:
    return f"{metric}, per cent" if metric in PER_CENT else metric


def _cells(section: Section | None, printed: Sequence[Published], metric: str, budgets: Sequence[str]) -> list[Cell]:
    """All selectors at all budgets that either side has, the paper's first."""
    by_place = _lines(printed)
    # The heading of each line, and what of ours stands in it.
    lines = {heading: one.selector for (heading, _), one in by_place.items()}
    lines |= {row.label: row.label for row in section.rows if row.label not in lines} if section else {}
    cells = [
        _cell(section, heading, selector, budget, metric, by_place.get((heading, budget)))
        for heading, selector in lines.items()
        for budget in budgets
    ]
    return [cell for cell in cells if cell.ours or cell.paper]


def _lines(printed: Sequence[Published]) -> dict[tuple[str, str], Published]:
    """By heading of the line and budget. A further number for one cell has a line of its own."""
    by_place: dict[tuple[str, str], Published] = {}
    for one in printed:
        taken = (one.selector, one.budget) in by_place
        by_place[f"{one.selector}: {one.method}" if taken else one.selector, one.budget] = one
    return by_place


def _cell(
    section: Section | None, heading: str, selector: str, budget: str, metric: str, paper: Published | None
) -> Cell:
    if section is None:
        return Cell(heading, budget, ours=None, beside=None, paper=paper)
    every = [_rows(section, selector, one) for one in budget.split("+")]
    taken = [rows[0] for rows in every if len(rows) == 1]
    return Cell(
        heading,
        budget,
        ours=_ours(section, selector, budget, metric),
        beside=_ours(section, selector, budget, BESIDE[metric]) if metric in BESIDE else None,
        paper=paper,
        estimated=metric == "str_with_tuning" and any(row.ratio.estimated for row in taken),
        ran=len(taken) == len(every),
        several=tuple(dict.fromkeys(row.label for rows in every if len(rows) > 1 for row in rows)),
        training=tuple(dict.fromkeys(row.training for row in taken if row.training)),
    )


def _ours(section: Section, label: str, budget: str, metric: str) -> Score | None:
    """Our number; for a mean over budgets None unless there is one at each."""
    if "+" in budget:
        found = [_ours(section, label, one, metric) for one in budget.split("+")]
        known = [score for score in found if score is not None]
        if len(known) < len(found):
            return None
        mean = sum(score.value for score in known) / len(known)
        return Score(mean, None, min(score.n for score in known), min(score.seeds for score in known))
    row = _row(section, label, budget)
    if row is None:
        return None
    if metric == "speedup":
        return _speedup(row, _row(section, "nuggets", budget))
    return _score(row, metric)


def _row(section: Section, label: str, budget: str) -> Row | None:
    """The row that `label` names; None where none or more than one is called so."""
    rows = _rows(section, label, budget)
    return rows[0] if len(rows) == 1 else None


def _rows(section: Section, label: str, budget: str) -> list[Row]:
    wanted = _in_rows(section, budget)
    return [row for row in section.rows if label in (row.label, row.name) and row.budget in wanted]


def _in_rows(section: Section, budget: str) -> tuple[int | None, ...]:
    """Rows of the budget, None for that of `zero_shot`; nothing where our pool is too small for it."""
    try:
        return (parse_budget(budget).rows(section.pool) if budget else None,)
    except UserError:
        return ()


def _left_out(section: Section, metric: str, cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Rows of ours that have the metric and stand in no cell. The bounds have no cost to tell of."""
    parts = [(cell.selector, one) for cell in cells if cell.ours for one in cell.budget.split("+")]
    shown = {(label, rows) for label, one in parts for rows in _in_rows(section, one)}
    return tuple(
        Cell(
            row.label,
            "" if row.budget is None else str(row.budget),
            ours=score,
            beside=_score(row, BESIDE[metric]) if metric in BESIDE else None,
            paper=None,
            estimated=metric == "str_with_tuning" and row.ratio.estimated,
            ran=True,
            training=(row.training,) if row.training else (),
        )
        for row in section.rows
        if (row.label, row.budget) not in shown and (score := _score(row, metric))
        if metric in row.scores or row.budget not in (None, section.pool)
    )


def _score(row: Row, metric: str) -> Score | None:
    score = row.scores.get(metric)
    if metric in PER_CENT:
        if score is None:
            return None
        return replace(score, value=100 * score.value, stderr=None if score.stderr is None else 100 * score.stderr)
    times: dict[str, Callable[[], float | None]] = {
        "str": lambda: row.ratio.seconds,
        "str_with_tuning": lambda: _sum(row.ratio.seconds, row.tuning_ratio),
        "total_seconds": lambda: _total_seconds(row),
    }
    if metric not in times:
        return score
    value = times[metric]()
    return None if value is None else Score(value, None, n=0, seeds=row.seeds)


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _total_seconds(row: Row) -> float | None:
    # Where STR is unknown, the two were timed on different machines: their sum is a time of neither.
    return None if row.ratio.seconds is None else row.selection_seconds + row.tuning_seconds


def _speedup(row: Row, nuggets: Row | None) -> Score | None:
    mine = _score(row, "str_with_tuning")
    theirs = _score(nuggets, "str_with_tuning") if nuggets else None
    if mine is None or theirs is None or row is nuggets or mine.value <= 0:
        return None
    return Score(theirs.value / mine.value, None, n=0, seeds=min(row.seeds, theirs.seeds))
