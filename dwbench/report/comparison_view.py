"""How a paper's numbers beside ours look: text, Markdown, LaTeX, and CSV in full precision."""

from collections.abc import Sequence

from dwbench.report.comparison import BESIDE, Cell, Comparison
from dwbench.report.formats import ESTIMATED, MISSING, Column, Grid, csv_text, draw, notes, short
from dwbench.report.published import EACH_BUDGET, PER_CENT, Published
from dwbench.report.table import Table

HEADINGS = {"exact_match_flexible": "flexible", "str": "selection"}
RATIOS = ("str", "str_with_tuning", "speedup")
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


def render(comparisons: Sequence[Comparison], table: Table, form: str, *, width: int = 100) -> str:
    """The comparisons as text, md, latex or csv (full precision, a line a cell)."""
    if form == "csv":
        return _csv(comparisons)
    return draw([_grid(one) for one in comparisons], _notes(comparisons, table), form, width=width)


def _notes(comparisons: Sequence[Comparison], table: Table) -> list[str]:
    cells = [cell for one in comparisons for cell in (*one.cells, *one.left_out)]
    told = [_counted(cells)]
    told += [TOLD[metric] for metric in dict.fromkeys(one.metric for one in comparisons) if metric in TOLD]
    if any(_mine(one.metric, cell) == "unknown" for one in comparisons for cell in one.cells):
        told.append("unknown: ran, but without a number: selected and tuned on different machines, or not evaluated.")
    told += [f"Ours tuned by {how}." for how in dict.fromkeys(how for cell in cells for how in cell.training)]
    estimated = any(cell.estimated for cell in cells)
    return told + [note for note in notes(table) if note != ESTIMATED or estimated]


def _counted(cells: Sequence[Cell]) -> str:
    """How many of the paper's numbers have one of ours beside them, each counted once."""
    every = dict.fromkeys(cell.paper for cell in cells if cell.paper)
    have = dict.fromkeys(cell.paper for cell in cells if cell.paper and cell.ours)
    measured = sum(one.source.startswith("Figure") for one in every)
    of_them = f", {measured:,} of them measured off a figure" if measured else ""
    return f"Ours: {len(have):,} of the {len(every):,} numbers of the paper{of_them}. difference: ours - paper's."


def _grid(comparison: Comparison) -> Grid:
    cells = {(cell.selector, cell.budget): cell for cell in comparison.cells}
    labels = list(dict.fromkeys(cell.selector for cell in comparison.cells))
    # Bounds stand at every budget; they have columns of their own only where nothing else has.
    every = [one for one in comparison.budgets if any(cell.budget == one for cell in comparison.cells)]
    budgets = [one for one in every if one not in EACH_BUDGET] or every
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
        named = (
            f"{cell.selector} at {int(cell.budget):,} rows" if cell.budget else cell.selector
            for cell in comparison.left_out
        )
        told.append(f"Of ours, at no budget of the paper (--plain shows it): {'; '.join(named)}.")
    told += _fewer_rows(comparison)
    if comparison.metric in PER_CENT and any(cell.paper for cell in comparison.cells):
        told += [OF_DATA[name] for name in (comparison.dataset,) if name in OF_DATA]
    return told


def _fewer_rows(comparison: Comparison) -> list[str]:
    """What of ours was scored on a part of the test rows."""
    test = comparison.section.test if comparison.section else 0
    scored = [(cell.selector, cell.ours.n) for cell in comparison.cells if cell.ours and 0 < cell.ours.n < test]
    parts = [
        f"{n:,} ({', '.join(dict.fromkeys(label for label, rows in scored if rows == n))})"
        for n in sorted({rows for _, rows in scored})
    ]
    return [f"Of ours scored on fewer than the {test:,} test rows: {'; '.join(parts)}."] if parts else []


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
        beside = tuple(_beside(metric, cell) for cell in cells)
        columns.append(Column(f"{budget}\n{HEADINGS[BESIDE[metric]]}", beside, joined=True))
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
        return "several" if cell.several else "unknown" if cell.ran else "missing"
    error = f" ±{_number(metric, cell.ours.stderr)}" if cell.ours.stderr is not None else ""
    return "~" * cell.estimated + _number(metric, cell.ours.value) + error


def _beside(metric: str, cell: Cell | None) -> str:
    if cell is None or cell.beside is None:
        return MISSING
    return "~" * cell.estimated + _number(BESIDE[metric], cell.beside.value)


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
    """As papers print it: two decimals; of small ratios three digits."""
    two = metric in PER_CENT or (metric in RATIOS and abs(value) >= 0.1)
    return f"{value:.2f}" if two else short(value)


def _csv(comparisons: Sequence[Comparison]) -> str:
    head = ["model", "dataset", "pool_rows", "test_rows", "metric", "selector", "budget"]
    head += ["ours", "ours_stderr", "ours_seeds", "ours_rows", "ours_estimated", "ours_training"]
    head += ["beside_metric", "beside", "paper", "difference", "method", "caveat", "source", "several"]
    lines = [
        [*_place(one), cell.selector, cell.budget, *_of_ours(cell), *_of_beside(one.metric, cell), *_of_paper(cell)]
        for one in comparisons
        for cell in (*one.cells, *one.left_out)
    ]
    return csv_text(head, lines)


def _place(one: Comparison) -> list[object]:
    rows = [one.section.pool, one.section.test] if one.section else [None] * 2
    return [one.model, one.dataset, *rows, one.metric]


def _of_ours(cell: Cell) -> list[object]:
    if cell.ours is None:
        return [None] * 6
    score, training = cell.ours, "; ".join(cell.training) or None
    return [score.value, score.stderr, score.seeds, score.n or None, cell.estimated, training]


def _of_beside(metric: str, cell: Cell) -> list[object]:
    return [BESIDE[metric], cell.beside.value] if cell.beside else [None] * 2


def _of_paper(cell: Cell) -> list[object]:
    paper: Published | None = cell.paper
    told = [paper.method, paper.caveat, paper.source] if paper else [None] * 3
    return [paper.value if paper else None, cell.difference, *told, "; ".join(cell.several) or None]
