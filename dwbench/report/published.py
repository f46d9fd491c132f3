"""A paper's numbers with ours beside them and the difference. The numbers lie in `conf/published/EXPERIMENT.csv`."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dwbench.budget import parse_budget
from dwbench.config import conf_folders
from dwbench.errors import UserError
from dwbench.report.formats import ESTIMATED, MISSING, Column, Grid, csv_text, draw, notes, short
from dwbench.report.table import Row, Score, Section, Table

COLUMNS = ("model", "dataset", "selector", "budget", "metric", "value", "method", "caveat", "source")
EACH_BUDGET = ("", "100%")
"""Budgets of `zero_shot` and `full`: the bounds at every budget."""

PER_CENT = ("exact_match_strict", "exact_match_flexible", "rouge_l", "rouge_l_best")
BESIDE = {"exact_match_strict": "exact_match_flexible", "str_with_tuning": "str"}
"""What of ours is shown beside a metric, because the two together say what one does not."""

HEADINGS = {"exact_match_flexible": "flexible", "str": "selection"}
TOLD = {
    "exact_match_strict": "flexible: the last number of an answer counts, with or without ####.",
    "str_with_tuning": "STR: seconds of selecting and of tuning on the chosen rows / seconds of tuning on the whole "
    "pool, as the printed ratios very probably are; selection: of selecting alone.",
    "speedup": "speedup: STR of nuggets / STR of this selector.",
    "total_seconds": "total_seconds: of selecting and of tuning on the chosen rows, on whatever machine.",
}


@dataclass(frozen=True)
class Published:
    """A number that a paper gives.

    Attributes:
        model, dataset, selector: as in our records and tables.
        budget: `5%`; empty for `zero_shot`; `1%+5%+10%`: the mean over these.
        metric: as in our tables, per cent where ours is a share; or `str_with_tuning` (of selecting and tuning on the
            chosen rows), `speedup` (that of nuggets over this one's) or `total_seconds`.
        method: what the paper calls the selector.
        caveat: what is odd about this number; empty: nothing known.
    """

    model: str
    dataset: str
    selector: str
    budget: str
    metric: str
    value: float
    method: str
    caveat: str
    source: str


@dataclass(frozen=True)
class Cell:
    """A selector at a budget: ours, ours by another metric (`BESIDE`), the paper's; each None where there is none.

    `estimated`: whether ours is a ratio to an estimated time.
    """

    selector: str
    budget: str
    ours: Score | None
    beside: Score | None
    paper: Published | None
    estimated: bool = False

    @property
    def difference(self) -> float | None:
        return None if self.ours is None or self.paper is None else self.ours.value - self.paper.value


@dataclass(frozen=True)
class Comparison:
    """One model, data set and metric. `title` names our data where there are results."""

    title: str
    model: str
    dataset: str
    metric: str
    cells: tuple[Cell, ...]


def published(name: str) -> tuple[Published, ...]:
    """The numbers of the experiment `name`, in the file's order; empty where there is no file.

    Raises UserError naming file and line of what can't be read.
    """
    paths = [folder / "published" / f"{name}.csv" for folder in conf_folders()]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return ()
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise UserError(f"{path}:1: the columns must be {','.join(COLUMNS)}")
        return tuple(_read(path, reader.line_num, fields) for fields in reader)


def _read(path: Path, line: int, fields: dict[str, str]) -> Published:
    if None in fields or None in fields.values():
        raise UserError(f"{path}:{line}: must have {len(COLUMNS)} fields: quote those with commas")
    try:
        value = float(fields["value"])
    except ValueError:
        raise UserError(f"{path}:{line}: value {fields['value']!r} is no number") from None
    try:
        for budget in fields["budget"].split("+") if fields["budget"] else ():
            parse_budget(budget)
    except UserError as error:
        raise UserError(f"{path}:{line}: {error}") from None
    return Published(**{name: fields[name] for name in COLUMNS if name != "value"}, value=value)


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
        for section in ours or [None]:
            cells = _cells(section, printed, metric, list(budgets))
            title = f"{model}, {dataset}" if section is None else section.title
            if any(cell.ours or cell.paper for cell in cells):
                comparisons.append(Comparison(f"{title}: {_named(metric)}", model, dataset, metric, tuple(cells)))
    return comparisons


def _named(metric: str) -> str:
    return f"{metric}, per cent" if metric in PER_CENT else metric


def _cells(section: Section | None, printed: Sequence[Published], metric: str, budgets: Sequence[str]) -> list[Cell]:
    """All selectors at all budgets that either side has, the paper's first."""
    by_place = {(one.selector, one.budget): one for one in printed}
    labels = dict.fromkeys(one.selector for one in printed)
    labels |= dict.fromkeys(row.label for row in section.rows) if section else {}
    cells = [
        Cell(
            label,
            budget,
            ours=_ours(section, label, budget, metric) if section else None,
            beside=_ours(section, label, budget, BESIDE[metric]) if section and metric in BESIDE else None,
            paper=by_place.get((label, budget)),
            estimated=metric == "str_with_tuning" and _is_estimated(section, label, budget),
        )
        for label in labels
        for budget in budgets
    ]
    return [cell for cell in cells if cell.ours or cell.paper]


def _ours(section: Section, label: str, budget: str, metric: str) -> Score | None:
    """Our number; for a mean over budgets None unless there is one at each."""
    if "+" in budget:
        found = [_ours(section, label, one, metric) for one in budget.split("+")]
        known = [score for score in found if score is not None]
        if len(known) < len(found):
            return None
        mean = sum(score.value for score in known) / len(known)
        return Score(mean, None, known[0].n, min(score.seeds for score in known))
    row = _row(section, label, budget)
    if row is None:
        return None
    if metric == "speedup":
        return _speedup(row, _row(section, "nuggets", budget))
    return _score(row, metric)


def _row(section: Section, label: str, budget: str) -> Row | None:
    try:
        wanted = parse_budget(budget).rows(section.pool) if budget else None
    except UserError:
        return None  # our pool is too small for such a budget
    return next((row for row in section.rows if (row.label, row.budget) == (label, wanted)), None)


def _is_estimated(section: Section | None, label: str, budget: str) -> bool:
    row = _row(section, label, budget) if section and "+" not in budget else None
    return row is not None and row.ratio.estimated


def _score(row: Row, metric: str) -> Score | None:
    score = row.scores.get(metric)
    if metric in PER_CENT:
        if score is None:
            return None
        return replace(score, value=100 * score.value, stderr=None if score.stderr is None else 100 * score.stderr)
    times: dict[str, Callable[[], float | None]] = {
        "str": lambda: row.ratio.seconds,
        "str_with_tuning": lambda: _sum(row.ratio.seconds, row.tuning_ratio),
        "total_seconds": lambda: row.selection_seconds + row.tuning_seconds,
    }
    if metric not in times:
        return score
    value = times[metric]()
    return None if value is None else Score(value, None, n=0, seeds=row.seeds)


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _speedup(row: Row, nuggets: Row | None) -> Score | None:
    mine = _score(row, "str_with_tuning")
    theirs = _score(nuggets, "str_with_tuning") if nuggets else None
    if mine is None or theirs is None or row is nuggets or mine.value <= 0:
        return None
    return Score(theirs.value / mine.value, None, n=0, seeds=min(row.seeds, theirs.seeds))


def render(comparisons: Sequence[Comparison], table: Table, form: str, *, width: int = 100) -> str:
    """The comparisons as text, md, latex or csv (full precision, a line a cell)."""
    if form == "csv":
        return _csv(comparisons)
    return draw([_grid(one) for one in comparisons], _notes(comparisons, table), form, width=width)


def _notes(comparisons: Sequence[Comparison], table: Table) -> list[str]:
    printed = [cell for one in comparisons for cell in one.cells if cell.paper]
    have = sum(cell.ours is not None for cell in printed)
    told = [f"Ours: {have:,} of the {len(printed):,} numbers of the paper. difference: ours - paper's."]
    told += [TOLD[metric] for metric in dict.fromkeys(one.metric for one in comparisons) if metric in TOLD]
    estimated = any(cell.estimated for one in comparisons for cell in one.cells)
    return told + [note for note in notes(table) if note != ESTIMATED or estimated]


def _grid(comparison: Comparison) -> Grid:
    cells = {(cell.selector, cell.budget): cell for cell in comparison.cells}
    labels = list(dict.fromkeys(cell.selector for cell in comparison.cells))
    # Bounds stand at every budget; they have columns of their own only where nothing else has.
    every = list(dict.fromkeys(cell.budget for cell in comparison.cells))
    budgets = sorted((one for one in every if one not in EACH_BUDGET), key=lambda one: "+" in one) or every
    caveats = list(dict.fromkeys(cell.paper.caveat for cell in comparison.cells if cell.paper and cell.paper.caveat))
    columns = [Column("selector", tuple(labels))]
    for budget in budgets:
        found = [_at(cells, label, budget) for label in labels]
        columns += _columns(comparison.metric, _budget(budget), found, caveats)
    return Grid(comparison.title, tuple(columns), below=tuple(f"({n}) {told}" for n, told in enumerate(caveats, 1)))


def _at(cells: dict[tuple[str, str], Cell], label: str, budget: str) -> Cell | None:
    """The cell, or that of a bound, which holds for all single budgets."""
    bounds = () if "+" in budget else EACH_BUDGET
    return next((cells[label, one] for one in (budget, *bounds) if (label, one) in cells), None)


def _budget(budget: str) -> str:
    return f"mean of {budget.replace('+', ', ')}" if "+" in budget else budget or "untuned"


def _columns(metric: str, budget: str, cells: Sequence[Cell | None], caveats: Sequence[str]) -> list[Column]:
    """Ours, what stands beside it, the paper's and the difference; what nobody has is left out."""
    columns = [Column(f"{budget}\nours", tuple(_mine(metric, cell) for cell in cells))]
    if any(cell and cell.beside for cell in cells):
        beside = BESIDE[metric]
        told = tuple(_number(beside, cell.beside.value) if cell and cell.beside else MISSING for cell in cells)
        columns.append(Column(f"{budget}\n{HEADINGS[beside]}", told, joined=True))
    if any(cell and cell.paper for cell in cells):
        columns += [
            Column(f"{budget}\npaper", tuple(_printed(metric, cell, caveats) for cell in cells), joined=True),
            Column(f"{budget}\ndifference", tuple(_difference(metric, cell) for cell in cells), joined=True),
        ]
    return columns


def _mine(metric: str, cell: Cell | None) -> str:
    if cell is None:
        return MISSING
    if cell.ours is None:
        return "missing"
    error = f" ±{_number(metric, cell.ours.stderr)}" if cell.ours.stderr is not None else ""
    return "~" * cell.estimated + _number(metric, cell.ours.value) + error


def _printed(metric: str, cell: Cell | None, caveats: Sequence[str]) -> str:
    if cell is None or cell.paper is None:
        return MISSING
    mark = f" ({caveats.index(cell.paper.caveat) + 1})" if cell.paper.caveat else ""
    return _number(metric, cell.paper.value) + mark


def _difference(metric: str, cell: Cell | None) -> str:
    difference = cell.difference if cell else None
    if difference is None:
        return MISSING
    return ("+" if difference > 0 else "") + _number(metric, difference)


def _number(metric: str, value: float) -> str:
    return f"{value:.2f}" if metric in PER_CENT else short(value)


def _csv(comparisons: Sequence[Comparison]) -> str:
    head = ["model", "dataset", "metric", "selector", "budget", "ours", "ours_stderr", "ours_seeds", "beside_metric"]
    head += ["beside", "paper", "difference", "method", "caveat", "source"]
    lines = []
    for one in comparisons:
        for cell in one.cells:
            ours, beside, paper = cell.ours, cell.beside, cell.paper
            cells: list[object] = [one.model, one.dataset, one.metric, cell.selector, cell.budget]
            cells += [ours.value, ours.stderr, ours.seeds] if ours else [None] * 3
            cells += [BESIDE[one.metric], beside.value] if beside else [None] * 2
            cells += [paper.value if paper else None, cell.difference]
            lines.append([*cells, *([paper.method, paper.caveat, paper.source] if paper else [None] * 3)])
    return csv_text(head, lines)
