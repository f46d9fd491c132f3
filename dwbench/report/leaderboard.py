"""Selectors in order of quality, and what of that order is more than chance; from the scores by test row in records."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dwbench.component import canonical_json
from dwbench.errors import UserError
from dwbench.records import Record
from dwbench.report.contenders import Contender, Evaluation, different, pairs
from dwbench.report.formats import MISSING, Column, Grid, arrow, csv_text, draw
from dwbench.report.labels import told_apart
from dwbench.report.overall import Overall, grid, over_budgets
from dwbench.report.statistics import DRAWS, Interval, Resampling, holm, probability_of_improvement, rank_stability
from dwbench.report.table import Section, table

BASELINE = "random"
LEVEL = 0.05
UNCLEAR: Literal["not distinguishable from random"] = "not distinguishable from random"

Verdict = Literal[
    "better than random",
    "worse than random",
    "not distinguishable from random",
    "no run of random",
    "no seed in common with random",
    "baseline",
    "bound",
]


@dataclass(frozen=True)
class Against:
    """A selector against `random`, paired by seed and test row.

    Attributes:
        seeds: that both have; a pair of evaluations that several seeds share counts once.
        difference: of the scores; in the metric's own direction.
        p: corrected by Holm over the selectors of the board.
        better: how likely a run does better than one of random's on a test row.
    """

    seeds: int
    difference: Interval
    p: float
    better: float


@dataclass(frozen=True)
class Entry:
    """One selector. `against` is None for bounds, the baseline, and where there is nothing to pair.

    `seeds` counts different evaluations: a deterministic run repeated under three seeds is one.
    """

    label: str
    seeds: int
    score: Interval
    against: Against | None
    verdict: Verdict


@dataclass(frozen=True)
class Leaderboard:
    """Selectors of one pool, model, budget, training and evaluation by one metric, best first.

    Attributes:
        title: data set, model, budget and metric.
        setting: the title without budget and metric; what boards of several budgets share.
        stability: mean Kendall's tau between the rankings of two seeds; None where there is no pair of seeds.
    """

    title: str
    dataset: str
    model: str
    budget: int
    metric: str
    test_rows: int
    entries: tuple[Entry, ...]
    stability: float | None
    setting: str

    @property
    def ranked(self) -> list[Entry]:
        """All but the bounds, best first."""
        return [entry for entry in self.entries if entry.verdict != "bound"]

    @property
    def one_seed(self) -> bool:
        """Whether any comparison rests on one seed."""
        return any(entry.seeds == 1 for entry in self.ranked)


def leaderboards(records: Sequence[Record], *, allow_mixed: bool = False) -> list[Leaderboard]:
    """One for each data set, model, budget, training, evaluation and metric whose direction is known.

    Raises UserError as `table` does, and where no record tells of scores by test row.
    """
    by_run = {record.run: record for record in records}
    boards = []
    for section in table(list(by_run.values()), allow_mixed=allow_mixed).sections:
        contenders = [
            Contender(row.label, told)
            for row in section.rows
            if (told := tuple(by_run[run] for run in row.runs if by_run[run].items))
        ]
        boards += _boards(section, contenders)
    if not boards:
        raise UserError(
            "no record tells of scores by test row: run the same commands again, which computes nothing anew, "
            "or evaluate with eval.nll_rows or eval.generation_rows above 0"
        )
    return boards


def overall(boards: Sequence[Leaderboard]) -> list[Overall]:
    """One ranking for each setting and metric that has boards of several budgets."""
    return list(_overall(boards).values())


def _overall(boards: Sequence[Leaderboard]) -> dict[tuple[str, str], Overall]:
    """By setting and metric."""
    groups: dict[tuple[str, str], list[Leaderboard]] = {}
    for board in boards:
        groups.setdefault((board.setting, board.metric), []).append(board)
    found = {}
    for (setting, metric), group in groups.items():
        title = f"{setting}: over {len(group)} budgets, {metric} {arrow(metric)}"
        scores = {
            board.budget: {entry.label: _sign(metric) * entry.score.mean for entry in board.ranked} for board in group
        }
        if (ranking := over_budgets(title, scores)) is not None:
            found[setting, metric] = ranking
    return found


def _sign(metric: str) -> int:
    return -1 if arrow(metric) == "↓" else 1


def _boards(section: Section, contenders: Sequence[Contender]) -> list[Leaderboard]:
    settings: dict[str, dict[int, list[Contender]]] = {}
    for one in contenders:
        if not one.bound:
            by_budget = settings.setdefault(canonical_json([one.training, one.evaluation]), {})
            by_budget.setdefault(one.first.rows, []).append(one)
    firsts = [next(iter(by_budget.values()))[0].first for by_budget in settings.values()]
    titles = told_apart(
        [section.title] * len(firsts),
        [_setting(record) for record in firsts],
        [record.run for record in firsts],
    )
    boards = []
    for title, by_budget in zip(titles, settings.values(), strict=True):
        for _, group in sorted(by_budget.items()):
            alike = [one for one in contenders if one.bound and one.evaluation == group[0].evaluation]
            bounds = [one for one in alike if one.first.training is None or one.training == group[0].training]
            metrics = dict.fromkeys(name for one in group for name in one.first.items if arrow(name))
            boards += [_board(section, title, group, bounds, metric) for metric in metrics]
    return sorted(boards, key=lambda board: board.budget)


def _setting(record: Record) -> dict[str, Any]:
    training = record.training
    tuned = None if training is None else {"version": training["version"], **training["identity"]}
    return {"training": tuned, "evaluation": record.data["evaluation"]}


def _board(
    section: Section, setting: str, group: Sequence[Contender], bounds: Sequence[Contender], metric: str
) -> Leaderboard:
    sign = _sign(metric)
    scores = {one.label: found for one in group if (found := one.by_seed(metric))}
    ends = {one.label: found for one in bounds if (found := one.by_seed(metric))}
    n = len(next(iter(next(iter(scores.values())).values())).scores)
    resampling = Resampling.of(n)
    # Not by its label: that tells trainings apart where a section has several.
    baseline = next((one.label for one in group if one.first.selector == BASELINE), None)
    against = _against_random(scores, baseline, sign, resampling)
    every = {name: different(by_seed.values()) for name, by_seed in {**scores, **ends}.items()}
    entries = [
        Entry(
            label=name,
            seeds=len(every[name]),
            score=score,
            against=against.get(name),
            verdict="bound" if name in ends else _verdict(name, baseline, against.get(name), sign),
        )
        for name, score in zip(every, resampling.intervals(list(every.values())), strict=True)
    ]
    entries.sort(key=lambda entry: (-sign * entry.score.mean, entry.label))
    rows = group[0].first.rows
    return Leaderboard(
        title=f"{setting}: {rows:,} rows, {metric} {arrow(metric)}",
        dataset=section.dataset,
        model=section.model,
        budget=rows,
        metric=metric,
        test_rows=n,
        entries=tuple(entries),
        stability=_stability(scores),
        setting=setting,
    )


def _against_random(
    scores: dict[str, dict[int, Evaluation]], random: str | None, sign: int, resampling: Resampling
) -> dict[str, Against]:
    """Each selector that shares a seed with the one labelled `random` against it, over the seeds that both have."""
    baseline = scores.get(random, {}) if random else {}
    paired = {
        name: pairs(by_seed, baseline)
        for name, by_seed in scores.items()
        if name != random and by_seed.keys() & baseline.keys()
    }
    differences = [mine - other for mine, other in paired.values()]
    intervals, p_values = resampling.intervals(differences), holm(resampling.p_values(differences))
    return {
        name: Against(
            seeds=len(mine),
            difference=difference,
            p=p,
            better=probability_of_improvement(sign * mine, sign * other),
        )
        for (name, (mine, other)), difference, p in zip(paired.items(), intervals, p_values, strict=True)
    }


def _verdict(name: str, baseline: str | None, against: Against | None, sign: int) -> Verdict:
    if name == baseline:
        return "baseline"
    if against is None:
        return "no seed in common with random" if baseline else "no run of random"
    # Two conditions: p is corrected for the number of selectors; of one seed test and interval are made differently.
    if against.p >= LEVEL or not against.difference.excludes_zero:
        return UNCLEAR
    return "better than random" if sign * against.difference.mean > 0 else "worse than random"


def _stability(scores: dict[str, dict[int, Evaluation]]) -> float | None:
    common = sorted(set.intersection(*(set(by_seed) for by_seed in scores.values())))
    # A seed under which nothing differs from another agrees with it of itself.
    once = {tuple(by_seed[seed].artefact for by_seed in scores.values()): seed for seed in common}
    means = [[by_seed[seed].scores.mean() for by_seed in scores.values()] for seed in once.values()]
    return rank_stability(np.array(means)) if means else None


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
    f"A selector is called better or worse where p < {LEVEL} and the interval of the difference is without 0.",
)


def _notes(boards: Sequence[Leaderboard]) -> list[str]:
    """Of `NOTES` those on what occurs."""
    counts = {entry.seeds for board in boards for entry in board.entries}
    counts |= {entry.against.seeds for board in boards for entry in board.entries if entry.against}
    absent = {OF_ONE_SEED: 1 not in counts, OF_SEVERAL: max(counts) == 1}
    return [note for note in NOTES if not absent.get(note)]


def _grid(board: Leaderboard) -> Grid:
    entries = board.entries
    places = {entry.label: str(place) for place, entry in enumerate(board.ranked, 1)}
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
    """The verdict; a difference that rests on one seed says so wherever it is quoted."""
    one_seed = entry.against is not None and entry.against.seeds == 1
    return f"{entry.verdict} (one seed)" if one_seed and entry.verdict != UNCLEAR else entry.verdict


def _told(board: Leaderboard) -> list[str]:
    told = []
    if board.one_seed:
        told.append(
            f"One seed: intervals and tests cover the draw of the {board.test_rows:,} test rows only. With another "
            "seed the selectors may come in another order."
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
        for place, ranking in _overall(boards).items()
        for standing in ranking.standings
    }
    lines = []
    for board in boards:
        places = {entry.label: place for place, entry in enumerate(board.ranked, 1)}
        for entry in board.entries:
            cells: list[object] = [board.dataset, board.model, board.budget, board.metric, board.test_rows]
            cells += [entry.label, entry.seeds, entry.score.mean, entry.score.low, entry.score.high]
            one = entry.against
            cells += [one.difference.mean, one.difference.low, one.difference.high] if one else [None] * 3
            cells += [one.seeds, one.p, one.better] if one else [None] * 3
            cells += [entry.verdict, board.stability, board.setting, places.get(entry.label)]
            cells += [
                means.get((board.setting, board.metric, entry.label)),
                _by(entry.seeds),
                _by(one.seeds) if one else None,
            ]
            lines.append(cells)
    return csv_text(head, lines)


def _by(seeds: int) -> str:
    return "bootstrap of rows" if seeds == 1 else "t, crossed seeds and rows"
