"""How tables look: text for terminals and pipes, Markdown, CSV (full precision) and LaTeX (booktabs)."""

import csv
import io
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dwbench.errors import UserError, nearest
from dwbench.report.table import Row, Score, Section, Table

Format = Literal["text", "md", "csv", "latex"]
MISSING = "-"
LOWER_IS_BETTER = ("nll", "loss", "perplexity", "ppl", "error", "bits_per_byte")
HIGHER_IS_BETTER = ("rouge", "exact_match", "acc", "f1", "bleu", "meteor", "bertscore", "chrf", "mcc", "pass")
WIDEST_LABEL = 32
ESTIMATED = (
    "~: estimated. No full-data run of this model, data, training and hardware was timed; "
    "its seconds are taken from the tokens per second of the subset runs."
)


@dataclass(frozen=True)
class Column:
    """A heading (its lines) and a cell for each row; `joined`: never apart from the column before it."""

    heading: str
    cells: tuple[str, ...]
    joined: bool = False


@dataclass(frozen=True)
class Grid:
    """A titled table. Its first `fixed` columns are repeated where the others don't fit beside them; `below` are lines
    that belong to it."""

    title: str
    columns: tuple[Column, ...]
    fixed: int = 1
    below: tuple[str, ...] = ()


def render(table: Table, form: str = "text", *, width: int = 100) -> str:
    """`table` in one of the formats. `width` in characters, for text: what is wider is put below.

    Raises UserError for an unknown format.
    """
    if form == "csv":
        return _csv(table)
    if not table.sections and form == "text":
        return "no records\n"
    grids = [Grid(section.title, tuple(_columns(section)), fixed=2) for section in table.sections]
    return draw(grids, notes(table), form, width=width)


def draw(grids: Sequence[Grid], told: Sequence[str], form: str, *, width: int = 100) -> str:
    """`grids` and the notes `told` on all of them, as text, md or latex. Raises UserError for another format."""
    forms: dict[str, Callable[[], str]] = {
        "text": lambda: _text(grids, told, width),
        "md": lambda: _markdown(grids, told),
        "latex": lambda: _latex(grids, told),
    }
    if form not in forms:
        raise UserError(f"no table format {form!r}: {nearest(form, [*forms, 'csv'])}")
    return forms[form]()


def arrow(metric: str) -> str:
    """`↑` where more of the metric is better, `↓` where less is, nothing where it is not known."""
    name = metric.lower()
    if any(part in name for part in LOWER_IS_BETTER):
        return "↓"
    return "↑" if any(part in name for part in HIGHER_IS_BETTER) else ""


def notes(table: Table) -> list[str]:
    """What the marks in the table mean, those only that occur in it."""
    rows = [row for section in table.sections for row in section.rows]
    scores = [score for row in rows for score in row.scores.values()]
    told = []
    if any(score.stderr is not None and score.seeds == 1 for score in scores):
        told.append("±: standard error over the test rows of one run.")
    if any(score.seeds > 1 for score in scores):
        told.append("Where seeds > 1: mean over seeds ± standard error of that mean.")
    if any(row.ratio.estimated for row in rows):
        told.append(ESTIMATED)
    if table.mixed:
        told.append(f"Mixed environments: {table.mixed}.")
    return told


def _columns(section: Section) -> list[Column]:
    rows = section.rows
    columns = [
        Column("selector", tuple(row.label for row in rows)),
        Column("budget\n(rows)", tuple(MISSING if row.budget is None else f"{row.budget:,}" for row in rows)),
    ]
    if any(row.seeds > 1 for row in rows):
        columns.append(Column("seeds", tuple(str(row.seeds) for row in rows)))
    columns += [Column(f"{name} {arrow(name)}".strip(), _scores(rows, name)) for name in section.metrics]
    return [
        *columns,
        Column("selection\nseconds", tuple(short(row.selection_seconds) for row in rows)),
        Column("STR\n(s)", tuple("~" * row.ratio.estimated + short(row.ratio.seconds) for row in rows)),
        Column("STR\n(FLOP)", tuple(short(row.ratio.flop) for row in rows)),
        Column("tuned\ntokens", tuple(f"{row.tuned_tokens:,}" for row in rows)),
        Column("tokens a\nresponse", tuple(short(row.response_length) for row in rows)),
    ]


def _scores(rows: Sequence[Row], metric: str) -> tuple[str, ...]:
    scores = [row.scores.get(metric) for row in rows]
    errors = [score.stderr for score in scores if score is not None and score.stderr]
    # Two digits of the smallest standard error, the same number of decimals all the way down.
    decimals = min(4, max(1, 1 - math.floor(math.log10(min(errors))))) if errors else 3
    return tuple(MISSING if score is None else _one_score(score, decimals) for score in scores)


def _one_score(score: Score, decimals: int) -> str:
    value = f"{score.value:.{decimals}f}"
    return value if score.stderr is None else f"{value} ±{score.stderr:.{decimals}f}"


def short(number: float | None) -> str:
    """Three significant digits, without an exponent from 0.001 up."""
    if number is None:
        return MISSING
    if number == 0:
        return "0"
    if abs(number) >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.3g}" if abs(number) >= 0.001 else f"{number:.1e}"


def _text(grids: Sequence[Grid], told: Sequence[str], width: int) -> str:
    parts = ["\n\n".join([grid.title, *_blocks(grid, width), *_wrapped(grid.below, width)]) for grid in grids]
    return "\n\n".join([*parts, *_wrapped(told, width)]) + "\n"


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    """The lines as one paragraph, or no paragraph where there are none."""
    return ["\n".join(textwrap.fill(line, width, subsequent_indent="  ") for line in lines)] if lines else []


def _blocks(grid: Grid, width: int) -> list[str]:
    """The columns side by side as far as they fit, the rest below with the fixed ones repeated.

    Numbers are never wrapped or cut: columns that don't fit even alone make the lines longer.
    """
    fixed = grid.columns[: grid.fixed]
    waiting: list[list[Column]] = []
    for column in grid.columns[grid.fixed :]:
        if column.joined and waiting:
            waiting[-1].append(column)
        else:
            waiting.append([column])
    blocks, now = [], list(fixed)
    for columns in waiting:
        if len(now) > len(fixed) and _natural_width([*now, *columns]) > width:
            blocks.append(text_grid(now))
            now = list(fixed)
        now += columns
    return [*blocks, text_grid(now)]


def _natural_width(columns: Sequence[Column]) -> int:
    return max(len(line) for line in text_grid(columns).splitlines())


def text_grid(columns: Sequence[Column]) -> str:
    """The columns for a terminal, the first one flush left; as wide as they are."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for index, column in enumerate(columns):
        label = index == 0
        grid.add_column(
            Text(column.heading),
            justify="left" if label else "right",
            no_wrap=not label,
            overflow="fold",
            max_width=WIDEST_LABEL if label else None,
            vertical="bottom",
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        grid.add_row(*(Text(cell) for cell in cells))
    # Wide enough for all: what fits was decided before, and rich would cut numbers to make room.
    console = Console(file=io.StringIO(), width=10_000, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(grid)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())


def _markdown(grids: Sequence[Grid], told: Sequence[str]) -> str:
    parts = ["\n\n".join([f"**{grid.title}**", markdown_grid(grid.columns), *_listed(grid.below)]) for grid in grids]
    return "\n\n".join([*parts, *_listed(told)]) + "\n"


def _listed(lines: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {line}" for line in lines)] if lines else []


def markdown_grid(columns: Sequence[Column]) -> str:
    """The columns as a Markdown table, the first one flush left."""
    lines = [[column.heading.replace("\n", " ") for column in columns], ["---"] + ["---:"] * (len(columns) - 1)]
    lines += [list(cells) for cells in zip(*(column.cells for column in columns), strict=True)]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _csv(table: Table) -> str:
    metrics = list(dict.fromkeys(name for section in table.sections for name in section.metrics))
    head = ["dataset", "model", "selector", "budget_rows", "pool_rows", "seeds"]
    for name in metrics:
        head += [name, f"{name}_stderr", f"{name}_n", f"{name}_seeds"]
    head += [
        "selection_seconds",
        "str_seconds",
        "str_seconds_estimated",
        "str_flop",
        "tuning_seconds",
        "tuning_ratio",
        "tuned_tokens",
        "response_length",
        "runs",
    ]
    lines = []
    for section in table.sections:
        for row in section.rows:
            cells: list[object] = [section.dataset, section.model, row.label, row.budget, section.pool]
            cells.append(row.seeds)
            for name in metrics:
                score = row.scores.get(name)
                cells += [None] * 4 if score is None else [score.value, score.stderr, score.n, score.seeds]
            ratio = row.ratio
            cells += [row.selection_seconds, ratio.seconds, str(ratio.estimated).lower(), ratio.flop]
            cells += [row.tuning_seconds, row.tuning_ratio]
            lines.append([*cells, row.tuned_tokens, row.response_length, " ".join(row.runs)])
    return csv_text(head, lines)


def csv_text(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """CSV with a heading: None is an empty cell, a float is written in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([head, *lines])
    return text.getvalue()


_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"$\sim$",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "<": r"$<$",
        ">": r"$>$",
        "|": r"$|$",
        "[": "{[}",  # behind the end of a line a bracket would be read as its option
        **{sign: "\\" + sign for sign in "&%$#_{}"},
    }
)


def _latex(grids: Sequence[Grid], told: Sequence[str]) -> str:
    return "\n\n".join(["% needs \\usepackage{booktabs}", *(_latex_table(grid, told) for grid in grids)]) + "\n"


def _latex_table(grid: Grid, told: Sequence[str]) -> str:
    lines = [[column.heading.replace("\n", " ") for column in grid.columns]]
    lines += [list(cells) for cells in zip(*(column.cells for column in grid.columns), strict=True)]
    head, *body = (" & ".join(_tex(cell) for cell in line) + r" \\" for line in lines)
    parts = [
        f"\\begin{{table}}\n\\caption{{{_tex(grid.title)}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(grid.columns) - 1)}}}",
        "\\toprule",
        head,
        "\\midrule",
        *body,
        "\\bottomrule\n\\end{tabular}",
        *(f"\n{{\\footnotesize {_tex(note)}}}" for note in (*grid.below, *told)),
        "\\end{table}",
    ]
    return "\n".join(parts)


def _tex(text: str) -> str:
    return text.translate(_TEX)
