"""What selectors choose: how far they agree, and what they make of planted noise."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dwbench.records import Record
from dwbench.report.agreement import Agreement, agreements
from dwbench.report.formats import MISSING
from dwbench.report.kinds import Audit, audits
from dwbench.report.plots.style import (
    COLOURS,
    GREY,
    WIDTH,
    Panel,
    Plot,
    draw,
    name_rows,
    paint_cells,
    rows_height,
)

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

CELL = 0.2
"""Side of a cell of a matrix, inches."""


def plot_agreement(records: Sequence[Record]) -> Plot | None:
    """Rank correlations as heat maps, one for each pool, model, budget and seed; None where nothing can be compared."""
    found = agreements(records)
    if not found:
        return None
    largest = max(len(one.labels) for one in found)
    told = ["numbers: Spearman's rank correlation of the scores; columns are numbered like the rows"]
    if any(np.isnan(one.spearman[np.tri(len(one.labels), k=-1, dtype=bool)]).any() for one in found):
        told.append(f"{MISSING}: none; fewer than three rows that both rank, or all of one tied")
    panels = [Panel(one.title, CELL * len(one.labels) + 0.4, partial(_draw_agreement, found=one)) for one in found]
    return Plot(
        draw(panels, width=max(WIDTH, 2.3 + CELL * largest)),
        tuple(told),
    )


def _draw_agreement(box: "SubFigure", found: Agreement) -> None:
    axes = box.subplots()
    below = np.tri(len(found.labels), k=-1, dtype=bool)
    values = np.where(below, found.spearman, np.nan)[:, :-1]
    texts = {(int(row), int(column)): _coefficient(found.spearman[row, column]) for row, column in np.argwhere(below)}
    paint_cells(axes, values, texts, "PuOr", (-1.0, 1.0))
    name_rows(axes, [f"{number} {name}" for number, name in enumerate(found.labels, 1)], signs=40)
    axes.set_xticks(range(len(found.labels) - 1), [str(number) for number in range(1, len(found.labels))])
    axes.set_aspect("equal", anchor="W")


def _coefficient(value: float) -> str:
    """`.58`, `-.12`, `1.00`, or a dash where there is none."""
    if np.isnan(value):
        return MISSING
    return f"{round(value, 2) + 0.0:.2f}".replace("0.", ".")  # + 0.0: no minus before nothing


def plot_kinds(records: Sequence[Record]) -> Plot | None:
    """Shares of the kinds of planted noise among the chosen rows, a line of panels for each pool; None without any."""
    found = audits(records)
    if not found:
        return None
    panels = [
        Panel(one.title, rows_height(list(one.selectors)) + 0.3, partial(_draw_audit, audit=one, number=number))
        for number, one in enumerate(found)
    ]
    width = 2 * WIDTH if max(len(one.pool) for one in found) > 2 else WIDTH
    return Plot(
        draw(panels, width=width),
        ("bars: exact (Clopper-Pearson) 95 % intervals; dashed line: share of the kind in the pool",),
    )


def _draw_audit(box: "SubFigure", audit: Audit, number: int) -> None:
    every = box.subplots(1, len(audit.pool), sharey=True, squeeze=False)[0]
    for axes, (kind, in_pool) in zip(every, audit.pool.items(), strict=True):
        axes.axvline(100 * in_pool, color=GREY, linestyle="--", linewidth=0.7)
        for place, shares in enumerate(audit.selectors.values()):
            share = shares[kind]
            around = [[100 * (share.value - share.low)], [100 * (share.high - share.value)]]
            bar = axes.errorbar([100 * share.value], [place], xerr=around, color=COLOURS[0], marker="o", clip_on=False)
            bar.lines[0].set_gid(f"share-{number}-{kind}-{place}")
        axes.set_title(kind.replace("_", " "))
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=3)
    name_rows(every[0], list(audit.selectors))
    for axes in every[1:]:
        axes.tick_params(axis="y", length=0)
    box.supxlabel("per cent of the chosen rows")
