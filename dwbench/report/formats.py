"""How tables look: text for terminals and pipes, Markdown, CSV (full precision) and LaTeX (booktabs)."""

import csv
import io
import math
import re
import textwrap
import unicodedata
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
WIDE = 10_000
"""A width, in characters, at which no table is broken into blocks."""

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
    digits = decimals([score for score in scores if score is not None])
    return tuple(MISSING if score is None else one_score(score, digits) for score in scores)


def decimals(scores: Iterable[Score]) -> int:
    """How many show two digits of the smallest standard error: the same for all that stand together."""
    errors = [score.stderr for score in scores if score.stderr and math.isfinite(score.stderr)]
    return min(4, max(1, 1 - math.floor(math.log10(min(errors))))) if errors else 3


def one_score(score: Score, digits: int) -> str:
    """`0.250 ±0.013`, or the value alone where its standard error is not known."""
    value = f"{score.value:.{digits}f}"
    return value if score.stderr is None else f"{value} ±{score.stderr:.{digits}f}"


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
    console = Console(file=io.StringIO(), width=WIDE, color_system=None, legacy_windows=False)
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


_TEX_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"$\sim$",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",  # the sign of a number, not a hyphen
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    '"': "''",
    "\u00a0": " ",
    "\u200b": "{}",  # `tex` keeps two hyphens from becoming a dash by it
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "[": "{[}",  # behind the end of a line a bracket or a star would be read as its option
    "*": "{*}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
}

_TEX_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0327": "c", "\u030c": "v"}


_TEX_FITTED = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%"
"""Opens a box that is made smaller where it is wider than the text."""


def _latex(grids: Sequence[Grid], told: Sequence[str]) -> str:
    needs = "% needs \\usepackage{booktabs,graphicx}; compiles with pdflatex: what is not ASCII is written as commands"
    return "\n\n".join([needs, *(_latex_table(grid, told) for grid in grids)]) + "\n"


def _latex_table(grid: Grid, told: Sequence[str]) -> str:
    lines = [list(cells) for cells in zip(*(column.cells for column in grid.columns), strict=True)]
    head = " & ".join(_tex_heading(column.heading) for column in grid.columns) + r" \\"
    parts = [
        f"\\begin{{table}}\n\\caption{{{tex(grid.title)}}}",
        f"\\begin{{center}}{_TEX_FITTED}",
        f"\\begin{{tabular}}{{l{'r' * (len(grid.columns) - 1)}}}",
        "\\toprule",
        head,
        "\\midrule",
        *(" & ".join(tex(cell) for cell in line) + r" \\" for line in lines),
        "\\bottomrule\n\\end{tabular}}\\end{center}",
        *(f"\n{{\\footnotesize\\raggedright {tex(note)}\\par}}" for note in (*grid.below, *_of_grid(told, grid))),
        "\\end{table}",
    ]
    return "\n".join(parts)


def _of_grid(told: Sequence[str], grid: Grid) -> list[str]:
    """Notes on all grids without those that explain a mark (`±: ...`) which this one has not."""
    cells = "".join(cell for column in grid.columns for cell in column.cells)
    return [note for note in told if note[:2] not in ("±:", "~:") or note[0] in cells]


def _tex_heading(heading: str) -> str:
    """Lines of a heading below each other."""
    lines = [tex(line) for line in heading.split("\n")]
    return lines[0] if len(lines) == 1 else "\\shortstack{" + r" \\ ".join(lines) + "}"


def tex(text: str) -> str:
    """`text` for LaTeX, in ASCII: it needs no package and no font beyond pdflatex's own.

    Accents become commands; a character that has none is written as its number, `[U+4E2D]`, and not dropped.
    """
    apart = re.sub("-(?=-)", "-\u200b", unicodedata.normalize("NFC", text))
    return "".join(_tex_sign(sign) for sign in apart)


def _tex_sign(sign: str) -> str:
    if sign in _TEX_SIGNS:
        return _TEX_SIGNS[sign]
    if sign.isascii():
        return sign if sign.isprintable() else " "
    parts = unicodedata.normalize("NFD", sign)
    letter, accents = parts[0], parts[1:]
    if len(accents) == 1 and letter.isascii() and accents[0] in _TEX_ACCENTS:
        return rf"\{_TEX_ACCENTS[accents[0]]}{{{letter}}}"
    return f"{{[}}U+{ord(sign):04X}{{]}}"
