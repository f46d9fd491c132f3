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
REFERENCES = "The three reference summaries of a dialogue are one test row in ours, three in the paper's file."
OF_DATA = {
    "gsm8k_paper": "The 748 test rows are of GSM8K's train split. One row is 0.134 points; one standard error at 72 % "
    "is 1.6 points, more than most differences between methods.",
    "dialogsum": REFERENCES,
    "dialogsum_synthetic": REFERENCES,
}
"""What to bear in mind where a paper gives a score on this data set."""

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
        method: what the paper calls the selector. Two numbers of one selector, budget and metric differ in this.
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

    Attributes:
        selector: the line's heading: a selector, with the paper's method where it has two numbers for one cell.
        estimated: whether ours is a ratio to an estimated time.
        several: labels of our rows that match where more than one does: none of them is taken.
    """

    selector: str
    budget: str
    ours: Score | None
    beside: Score | None
    paper: Published | None
    estimated: bool = False
    several: tuple[str, ...] = ()

    @property
    def difference(self) -> float | None:
        return None if self.ours is None or self.paper is None else self.ours.value - self.paper.value


@dataclass(frozen=True)
class Comparison:
    """One model, data set and metric. `title` names our data where there are results; `left_out` are rows of ours that
    have the metric, but stand in no cell: the paper does not have their budget."""

    title: str
    model: str
    dataset: str
    metric: str
    cells: tuple[Cell, ...]
    left_out: tuple[str, ...] = ()


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
        found: dict[tuple[str, ...], Published] = {}
        for fields in reader:
            one = _read(path, reader.line_num, fields)
            place = one.model, one.dataset, one.selector, one.budget, one.metric, one.method
            if place in found:
                raise UserError(
                    f"{path}:{reader.line_num}: a second number for {', '.join(place)}: name another method"
                )
            found[place] = one
    return tuple(found.values())


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
            left_out = _left_out(section, metric, cells) if section else ()
            if any(cell.ours or cell.paper for cell in cells) or left_out:
                title = f"{title}: {_named(metric)}"
                comparisons.append(Comparison(title, model, dataset, metric, tuple(cells), left_out))
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
        Cell(
            heading,
            budget,
            ours=_ours(section, selector, budget, metric) if section else None,
            beside=_ours(section, selector, budget, BESIDE[metric]) if section and metric in BESIDE else None,
            paper=by_place.get((heading, budget)),
            estimated=metric == "str_with_tuning" and _is_estimated(section, selector, budget),
            several=_several(section, selector, budget) if section else (),
        )
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


def _several(section: Section, label: str, budget: str) -> tuple[str, ...]:
    every = [_rows(section, label, one) for one in budget.split("+")]
    return tuple(dict.fromkeys(row.label for rows in every if len(rows) > 1 for row in rows))


def _left_out(section: Section, metric: str, cells: Sequence[Cell]) -> tuple[str, ...]:
    """Rows of ours that have the metric and stand in no cell."""
    parts = [(cell.selector, one) for cell in cells if cell.ours for one in cell.budget.split("+")]
    shown = {(label, rows) for label, one in parts for rows in _in_rows(section, one)}
    return tuple(
        row.label if row.budget is None else f"{row.label} at {row.budget:,} rows"
        for row in section.rows
        if (row.label, row.budget) not in shown and metric in row.scores
    )


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
    marks = [f"({n}) {told}" for n, told in enumerate(caveats, 1)]
    return Grid(comparison.title, tuple(columns), below=(*marks, *_below(comparison)))


def _below(comparison: Comparison) -> list[str]:
    """What belongs to this comparison alone."""
    told = [
        f"several: more than one of ours is {cell.selector} at {_budget(cell.budget)}: {'; '.join(cell.several)}."
        for cell in comparison.cells
        if cell.several
    ]
    if comparison.left_out:
        told.append(f"Of ours, at no budget of the paper (--plain shows it): {'; '.join(comparison.left_out)}.")
    if comparison.metric in PER_CENT and any(cell.paper for cell in comparison.cells):
        told += [OF_DATA[name] for name in (comparison.dataset,) if name in OF_DATA]
    return told


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
        return "several" if cell.several else "missing"
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
    head += ["beside", "paper", "difference", "method", "caveat", "source", "several"]
    lines = []
    for one in comparisons:
        for cell in one.cells:
            ours, beside, paper = cell.ours, cell.beside, cell.paper
            cells: list[object] = [one.model, one.dataset, one.metric, cell.selector, cell.budget]
            cells += [ours.value, ours.stderr, ours.seeds] if ours else [None] * 3
            cells += [BESIDE[one.metric], beside.value] if beside else [None] * 2
            cells += [paper.value if paper else None, cell.difference]
            cells += [paper.method, paper.caveat, paper.source] if paper else [None] * 3
            lines.append([*cells, "; ".join(cell.several) or None])
    return csv_text(head, lines)
