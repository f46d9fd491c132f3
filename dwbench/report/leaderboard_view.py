"""How leaderboards look: text, Markdown, LaTeX, and CSV in full precision."""

import math
from collections.abc import Sequence

from dwbench.report.formats import MISSING, Column, Grid, csv_text, draw
from dwbench.report.leaderboard import LEVEL, Entry, Leaderboard, overall, standings
from dwbench.report.overall import grid
from dwbench.report.statistics import DRAWS, Interval


def render(boards: Sequence[Leaderboard], form: str, *, width: int = 100) -> str:
    """The boards, then the rankings over several budgets, as text, md or latex; or csv (full precision)."""
    if form == "csv":
        return _csv(boards)
    grids = [*(_grid(board) for board in boards), *(grid(one) for one in overall(boards))]
    return draw(grids, _notes(boards), form, width=width)


OF_ONE_SEED = (
    f"Of one seed: intervals in brackets, 95 %, by a bootstrap of {DRAWS:,} draws of the test rows; p by flipping "
    "signs of rows at random."
)
OF_SEVERAL = (
    "Of several seeds: intervals in brackets, 95 %, and p by Student's t, seeds and test rows as crossed random "
    "effects, degrees of freedom by Satterthwaite. Two seeds are a rough basis."
)


NOTES = (
    OF_ONE_SEED,
    OF_SEVERAL,
    "p: mean difference from random, paired by seed and test row, two-sided, corrected by Holm for the selectors "
    "of the board. P(better): how likely a run does better than one of random's on a test row, ties counted half.",
    f"A selector is called better or worse where p < {LEVEL}, the interval of the difference is without 0 and several "
    "seeds are paired: one seed compares one adapter with one other.",
)


def _notes(boards: Sequence[Leaderboard]) -> list[str]:
    """Of `NOTES` those on what occurs."""
    counts = {entry.seeds for board in boards for entry in board.entries}
    counts |= {entry.against.seeds for board in boards for entry in board.entries if entry.against}
    absent = {OF_ONE_SEED: 1 not in counts, OF_SEVERAL: max(counts) == 1}
    return [note for note in NOTES if not absent.get(note)]


def _grid(board: Leaderboard) -> Grid:
    entries = board.entries
    places = {label: f"{place:g}" for label, place in board.places.items()}
    against = [entry.against for entry in entries]
    columns = [
        Column("selector", tuple(entry.label for entry in entries)),
        Column("rank", tuple(places.get(entry.label, MISSING) for entry in entries)),
        Column("seeds", tuple(str(entry.seeds) for entry in entries)),
        Column("score", _intervals([entry.score for entry in entries])),
        Column(
            "difference\nfrom random", _intervals([one.difference if one else None for one in against], signed=True)
        ),
        Column("p", tuple(_p(one.p) if one else MISSING for one in against)),
        Column("P(better)", tuple(f"{one.better:.2f}" if one else MISSING for one in against)),
        Column("", tuple(_said(entry) for entry in entries)),
    ]
    return Grid(board.title, tuple(columns), below=tuple(_told(board)))


def _said(entry: Entry) -> str:
    """The verdict; one that rests on one seed says so wherever it is quoted."""
    one_seed = entry.against is not None and entry.against.seeds == 1
    return f"{entry.verdict} (one seed)" if one_seed else entry.verdict


def _told(board: Leaderboard) -> list[str]:
    told = []
    if board.one_seed:
        told.append(
            f"One seed: intervals and tests cover the draw of the {board.test_rows:,} test rows only. With another "
            "seed the selectors may come in another order; nothing is called better or worse."
        )
    fewer = [
        f"{one.label} {one.against.seeds}" for one in board.ranked if one.against and one.against.seeds < one.seeds
    ]
    if fewer:
        told.append(f"Paired with random under fewer seeds than it has: {', '.join(fewer)}.")
    if board.stability is not None:
        told.append(
            f"Agreement of two seeds on the ranking (mean Kendall's tau): {board.stability:.2f}; 1: the same "
            "ranking, 0: by chance."
            + (f" Not in it, for want of seeds: {', '.join(board.unsteady)}." if board.unsteady else "")
        )
    return told


def _intervals(intervals: Sequence[Interval | None], *, signed: bool = False) -> tuple[str, ...]:
    """`mean [low, high]`, all with as many decimals: two digits of the smallest half width."""
    halves = [(one.high - one.low) / 2 for one in intervals if one is not None and one.high > one.low]
    decimals = min(4, max(1, 1 - math.floor(math.log10(min(halves))))) if halves else 3
    form = f"{'+' if signed else ''}.{decimals}f"
    return tuple(
        MISSING if one is None else f"{one.mean:{form}} [{one.low:{form}}, {one.high:{form}}]" for one in intervals
    )


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _csv(boards: Sequence[Leaderboard]) -> str:
    head = ["dataset", "model", "budget_rows", "metric", "test_rows", "selector", "seeds", "score", "low", "high"]
    head += ["difference", "difference_low", "difference_high", "paired_seeds", "p_holm", "p_better", "verdict"]
    head += ["seeds_tau", "setting", "rank", "mean_rank", "interval_by", "difference_by"]
    means = {
        (*place, standing.label): standing.mean
        for place, ranking in standings(boards).items()
        for standing in ranking.standings
    }
    lines = []
    for board in boards:
        places = board.places
        for entry in board.entries:
            cells: list[object] = [board.dataset, board.model, board.budget, board.metric, board.test_rows]
            cells += [entry.label, entry.seeds, entry.score.mean, entry.score.low, entry.score.high]
            one = entry.against
            cells += [one.difference.mean, one.difference.low, one.difference.high] if one else [None] * 3
            cells += [one.seeds, one.p, one.better] if one else [None] * 3
            cells += [
                entry.verdict,
                board.stability,
                board.setting,
                f"{places[entry.label]:g}" if entry.label in places else None,
            ]
            cells += [
                means.get((board.setting, board.metric, entry.label)),
                _by(entry.seeds),
                _by(one.seeds) if one else None,
            ]
            lines.append(cells)
    return csv_text(head, lines)


def _by(seeds: int) -> str:
    return "bootstrap of rows" if seeds == 1 else "t, crossed seeds and rows"
