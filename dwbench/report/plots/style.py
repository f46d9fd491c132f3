"""How figures look: one column of a paper wide, told apart by colour and by shape, the same bytes every time.

Figures are made without pyplot, and matplotlib's settings of the user's own are left alone.
"""

import io
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dwbench.errors import UserError
from dwbench.report.table import Score

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Form = Literal["svg", "pdf", "png"]

WIDTH = 3.4
"""Of a panel, inches: a column of a two-column paper. Two panels stand side by side."""

SIGNS_A_LINE = 60
"""Of a title or a legend's entry that fit into `WIDTH`."""

BREAKS = "(,/=_-"
"""Behind these a word may be broken that is longer than a line; best behind the first two."""

LINE = 0.13
"""Height of a line of text, inches."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which the colour-blind tell apart, without the yellow, which is too pale on white."""

PIXELS = 2**16 - 1
"""Of a PNG in one direction: more is refused by what draws it."""

SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d")
GREY = "#767676"

SETTINGS: dict[str, Any] = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "figure.titlesize": 7,
    "figure.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 0.9,
    "lines.markersize": 4,
    "hatch.linewidth": 0.4,
    "text.parse_math": False,  # a dollar sign in a name is one
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "dwbench",
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "figure.dpi": 300,  # laid out as it is saved: at another resolution letters are not of the same width
}

UNDATED: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


@dataclass(frozen=True)
class Mark:
    """How one thing is drawn, and what a legend calls it. `hatch`: of a bar; None: points and lines. `width`: of lines,
    in points."""

    label: str
    colour: str
    shape: str = ""
    line: str = ""
    filled: bool = True
    hatch: str | None = None
    width: float = 0.9


@dataclass(frozen=True)
class Panel:
    """A part of a figure: its heading, inches that it takes without it, and what draws it."""

    title: str
    height: float
    draw: "Callable[[SubFigure], None]"


@dataclass(frozen=True)
class Plot:
    """A figure, and what its caption has to say: what marks mean, and what is not shown."""

    figure: "Figure"
    notes: tuple[str, ...] = ()


@contextmanager
def look() -> Iterator[None]:
    """matplotlib's own defaults with ours on top, whatever the user's settings; put back at the end."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def draw(panels: Sequence[Panel], legend: Sequence[Mark] = (), *, width: float = WIDTH) -> "Figure":
    """The panels, two beside each other where they are `WIDTH` wide, else below each other, over one legend."""
    from matplotlib.figure import Figure

    columns = 2 if len(panels) > 1 and width <= WIDTH else 1
    lines = [panels[first : first + columns] for first in range(0, len(panels), columns)]
    signs = int(SIGNS_A_LINE * width / WIDTH)
    heights = [max(panel.height + LINE * (_lines(panel.title, signs) + 1) for panel in line) for line in lines]
    across = _legend_columns(legend, columns * width)
    if legend:
        tallest = max(_lines(mark.label, SIGNS_A_LINE) for mark in legend)
        heights.append(LINE * (math.ceil(len(legend) / across) * tallest + 1))
    with look():
        figure = Figure(figsize=(columns * width, sum(heights)), layout="constrained")
        places = figure.add_gridspec(len(heights), columns, height_ratios=heights)
        for row, line in enumerate(lines):
            for column, panel in enumerate(line):
                own = panel.height + LINE * (_lines(panel.title, signs) + 1)
                # A panel beside a taller one keeps its height.
                within = places[row, column].subgridspec(2, 1, height_ratios=[own, heights[row] - own])
                box = figure.add_subfigure(within[0] if own < heights[row] else places[row, column])
                box.suptitle(fold(panel.title, signs), x=0.02, horizontalalignment="left")
                panel.draw(box)
        if legend:
            box = figure.add_subfigure(places[len(lines), :])
            handles = [_handle(mark) for mark in legend]
            labels = [fold(mark.label, SIGNS_A_LINE) for mark in legend]
            box.legend(handles, labels, loc="center", ncols=across)
        _settle(figure)
    return figure


def _settle(figure: "Figure") -> None:
    """Lay the figure out and round all places: the solver's last digits are not the same in every process."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for box in figure.subfigs:
        box.bbox_relative.set_points(np.round(box.bbox_relative.get_points(), 5))
    for axes in figure.axes:
        axes.set_position(np.round(axes.get_position().bounds, 5))


def content(figure: "Figure", form: Form) -> bytes:
    """The figure as the bytes of a file: the same for the same figure, without a date.

    Raises UserError for a PNG of more pixels than there can be.
    """
    if form == "png" and max(figure.get_size_inches()) * SETTINGS["savefig.dpi"] > PIXELS:
        raise UserError("too many panels for a PNG: end --out in .svg or .pdf, or plot one experiment")
    file = io.BytesIO()
    with look():
        figure.savefig(file, format=form, metadata=UNDATED[form])
    return file.getvalue()


def marks(labels: Sequence[str], *, line: str = "") -> dict[str, Mark]:
    """A colour and a shape for each different label, in their order; past the shapes' number with hollow ones."""
    return {
        label: Mark(
            label=label,
            colour=COLOURS[place % len(COLOURS)],
            shape=SHAPES[place % len(SHAPES)],
            line=line,
            filled=place // len(SHAPES) % 2 == 0,
        )
        for place, label in enumerate(dict.fromkeys(labels))
    }


def fold(text: str, signs: int) -> str:
    """`text` in as few lines of at most `signs` as it takes, of much the same length, broken at spaces, but for one
    before a number (`test 64`). A word that is longer than a line is broken behind a sign, else anywhere."""
    glued = re.sub(r"(?<=[a-z]) (?=\d)", "\u00a0", text)
    pieces = [piece for word in glued.split(" ") for piece in _pieces(word, signs)]
    longest = max(1, *map(len, pieces))
    lines = _wrapped(" ".join(pieces), signs)
    while signs > longest and len(shorter := _wrapped(" ".join(pieces), signs - 1)) == len(lines):
        lines, signs = shorter, signs - 1
    return "\n".join(lines).replace("\u00a0", " ")


def _pieces(word: str, signs: int) -> list[str]:
    """The word in pieces of at most `signs`, no two of which fit into one line."""
    if len(word) <= signs:
        return [word]
    before = max(word.rfind(sign, 0, signs) for sign in "(,") + 1
    cut = before if before and len(word) - before <= signs else max(word.rfind(sign, 0, signs) for sign in BREAKS) + 1
    return [word[: cut or signs], *_pieces(word[cut or signs :], signs)]


def plot_scores(axes: "Axes", places: Sequence[float], scores: Sequence[Score], mark: Mark, name: str) -> None:
    """Scores with their standard errors, where they are known, as points, joined if the mark has a line.

    `name` is the id of the points' group in an SVG.
    """
    drawn = axes.errorbar(
        places,
        [score.value for score in scores],
        yerr=[score.stderr or 0.0 for score in scores],
        color=mark.colour,
        marker=mark.shape,
        markerfacecolor=mark.colour if mark.filled else "white",
        markeredgewidth=0.6,
        linestyle=mark.line,
        elinewidth=0.5,
        capsize=0,
    )
    drawn.lines[0].set_gid(name)
    for bars in drawn.lines[2]:
        bars.set_alpha(0.6)  # what lies below shows


def plot_level(axes: "Axes", value: float, mark: Mark) -> None:
    """A horizontal line behind all else; if the mark has a shape, with it at the right end."""
    axes.axhline(value, color=mark.colour, linestyle=mark.line, linewidth=0.7, zorder=1)
    if mark.shape:
        face = mark.colour if mark.filled else "white"
        axes.plot(
            [1], [value], mark.shape, transform=axes.get_yaxis_transform(), color=mark.colour, markerfacecolor=face,
            markersize=3, markeredgewidth=0.6, clip_on=False,
        )  # fmt: skip


def name_rows(axes: "Axes", labels: Sequence[str], signs: int = 30) -> None:
    """A row for each label, the first one on top."""
    axes.set_yticks(range(len(labels)), [fold(label, signs) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def rows_height(labels: Sequence[str], signs: int = 30) -> float:
    """Inches that rows with these labels take."""
    return sum(LINE * max(1.3, _lines(label, signs)) for label in labels) + 0.4


def paint_cells(
    axes: "Axes",
    values: np.ndarray,
    texts: Mapping[tuple[int, int], str],
    colours: str,
    ends: tuple[float, float],
) -> None:
    """A heat map of `values` [rows, columns], NaN left blank, with its numbers in it; row 0 on top.

    `texts` by row and column; `colours` is a colour map's name, its ends at `ends`.
    """
    down, across = (np.arange(size + 1) - 0.5 for size in values.shape)
    cells = np.ma.masked_invalid(values)
    drawn = axes.pcolormesh(
        across, down, cells, cmap=colours, vmin=ends[0], vmax=ends[1], edgecolors="white", linewidth=0.6
    )
    for (row, column), text in texts.items():
        red, green, blue, _ = drawn.to_rgba(values[row, column])
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        colour = "white" if dark and not np.isnan(values[row, column]) else "black"
        axes.text(column, row, text, color=colour, ha="center", va="center", fontsize=5)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlim(-0.5, values.shape[1] - 0.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def error_bars(scores: Sequence[Score]) -> list[str]:
    """What the error bars of these scores are."""
    told = []
    if any(score.stderr is not None and score.seeds == 1 for score in scores):
        told.append("error bars: standard error over the test rows of one run")
    if any(score.seeds > 1 for score in scores):
        told.append("error bars of several seeds: standard error of the mean over seeds")
    return told


def _wrapped(text: str, signs: int) -> list[str]:
    return textwrap.wrap(text, signs, break_on_hyphens=False)


def _lines(text: str, signs: int) -> int:
    return fold(text, signs).count("\n") + 1


def _legend_columns(legend: Sequence[Mark], width: float) -> int:
    signs = max((min(len(mark.label), SIGNS_A_LINE) for mark in legend), default=1)
    return max(1, min(len(legend), int(width / (0.45 + 0.05 * signs))))


def _handle(mark: Mark) -> "Artist":
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if mark.hatch is not None:
        return Patch(facecolor=mark.colour, hatch=mark.hatch, edgecolor="white", linewidth=0)
    return Line2D(
        [],
        [],
        color=mark.colour,
        marker=mark.shape,
        markerfacecolor=mark.colour if mark.filled else "white",
        markeredgewidth=0.6,
        linestyle=mark.line,
        linewidth=mark.width,
    )
