"""Selectors in order of quality, and what of that order is more than chance; from the scores by test row in records."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dwbench.component import canonical_json
from dwbench.errors import UserError
from dwbench.records import Record
from dwbench.report.formats import MISSING, Column, Grid, arrow, csv_text, draw
from dwbench.report.labels import told_apart
from dwbench.report.statistics import DRAWS, Interval, Resampling, holm, probability_of_improvement, rank_stability
from dwbench.report.str_ratio import CHOOSES_NOTHING
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
        seeds: that both have.
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
    """One selector. `against` is None for bounds, the baseline, and where there is nothing to pair."""

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

    @property
    def one_seed(self) -> bool:
        """Whether any comparison rests on one seed."""
        return any(entry.seeds == 1 for entry in self.entries if entry.verdict != "bound")


@dataclass(frozen=True)
class _Contender:
    """A row of a table with its records, those with scores by test row."""

    label: str
    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        return self.records[0]

    @property
    def bound(self) -> bool:
        return self.first.selector in CHOOSES_NOTHING

    @property
    def training(self) -> str:
        training = self.first.training
        return canonical_json(None if training is None else [training["version"], training["identity"]])

    @property
    def evaluation(self) -> str:
        return canonical_json(self.first.data["evaluation"])

    def by_seed(self, metric: str) -> dict[int, np.ndarray]:
        """Scores by test row, [rows], of each seed."""
        found = {record.seed: record.items.get(metric) for record in self.records}
        return {seed: np.array(scores, dtype=np.float64) for seed, scores in found.items() if scores}


def leaderboards(records: Sequence[Record], *, allow_mixed: bool = False) -> list[Leaderboard]:
    """One for each data set, model, budget, training, evaluation and metric whose direction is known.

    Raises UserError as `table` does, and where no record tells of scores by test row.
    """
    by_run = {record.run: record for record in records}
    boards = []
    for section in table(list(by_run.values()), allow_mixed=allow_mixed).sections:
        contenders = [
            _Contender(row.label, told)
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


def _boards(section: Section, contenders: Sequence[_Contender]) -> list[Leaderboard]:
    groups: dict[str, list[_Contender]] = {}
    for one in contenders:
        if not one.bound:
            groups.setdefault(canonical_json([one.first.rows, one.training, one.evaluation]), []).append(one)
    ordered = sorted(groups.values(), key=lambda group: group[0].first.rows)
    firsts = [group[0].first for group in ordered]
    titles = told_apart(
        [f"{section.title}: {record.rows:,} rows" for record in firsts],
        [{"training": record.training, "evaluation": record.data["evaluation"]} for record in firsts],
        [record.run for record in firsts],
    )
    boards = []
    for title, group in zip(titles, ordered, strict=True):
        alike = [one for one in contenders if one.bound and one.evaluation == group[0].evaluation]
        bounds = [one for one in alike if one.first.training is None or one.training == group[0].training]
        metrics = dict.fromkeys(name for one in group for name in one.first.items if arrow(name))
        boards += [_board(section, title, group, bounds, metric) for metric in metrics]
    return boards


def _board(
    section: Section, title: str, group: Sequence[_Contender], bounds: Sequence[_Contender], metric: str
) -> Leaderboard:
    sign = -1 if arrow(metric) == "↓" else 1
    scores = {one.label: found for one in group if (found := one.by_seed(metric))}
    ends = {one.label: found for one in bounds if (found := one.by_seed(metric))}
    n = len(next(iter(next(iter(scores.values())).values())))
    resampling = Resampling.of(n)
    # Not by its label: that tells trainings apart where a section has several.
    baseline = next((one.label for one in group if one.first.selector == BASELINE), None)
    against = _against_random(scores, baseline, sign, resampling)
    entries = [
        Entry(
            label=name,
            seeds=len(by_seed),
            score=resampling.interval(np.stack(list(by_seed.values()))),
            against=against.get(name),
            verdict="bound" if name in ends else _verdict(name, baseline, against.get(name), sign),
        )
        for name, by_seed in {**scores, **ends}.items()
    ]
    entries.sort(key=lambda entry: (-sign * entry.score.mean, entry.label))
    return Leaderboard(
        title=f"{title}, {metric} {arrow(metric)}",
        dataset=section.dataset,
        model=section.model,
        budget=group[0].first.rows,
        metric=metric,
        test_rows=n,
        entries=tuple(entries),
        stability=_stability(scores),
    )


def _against_random(
    scores: dict[str, dict[int, np.ndarray]], random: str | None, sign: int, resampling: Resampling
) -> dict[str, Against]:
    """Each selector that shares a seed with the one labelled `random` against it, over the seeds that both have."""
    baseline = scores.get(random, {}) if random else {}
    paired: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, by_seed in scores.items():
        common = sorted(by_seed.keys() & baseline.keys())
        if common and name != random:
            paired[name] = np.stack([by_seed[seed] for seed in common]), np.stack([baseline[seed] for seed in common])
    p_values = holm([resampling.p_value((mine - other).mean(axis=0)) for mine, other in paired.values()])
    return {
        name: Against(
            seeds=len(mine),
            difference=resampling.interval(mine - other),
            p=p,
            better=probability_of_improvement(sign * mine, sign * other),
        )
        for (name, (mine, other)), p in zip(paired.items(), p_values, strict=True)
    }


def _verdict(name: str, baseline: str | None, against: Against | None, sign: int) -> Verdict:
    if name == baseline:
        return "baseline"
    if against is None:
        return "no seed in common with random" if baseline else "no run of random"
    # Two conditions: the test is of the rows under these very seeds, the interval of other seeds too.
    if against.p >= LEVEL or not against.difference.excludes_zero:
        return UNCLEAR
    return "better than random" if sign * against.difference.mean > 0 else "worse than random"


def _stability(scores: dict[str, dict[int, np.ndarray]]) -> float | None:
    common = sorted(set.intersection(*(set(by_seed) for by_seed in scores.values())))
    means = [[by_seed[seed].mean() for by_seed in scores.values()] for seed in common]
    return rank_stability(np.array(means)) if common else None


def render(boards: Sequence[Leaderboard], form: str, *, width: int = 100) -> str:
    """The boards as text, md, latex or csv (full precision)."""
    return _csv(boards) if form == "csv" else draw([_grid(board) for board in boards], NOTES, form, width=width)


NOTES = (
    f"Intervals in brackets: 95 %, bootstrap of {DRAWS:,} draws of seeds and test rows together.",
    "p: mean difference from random, paired by seed and test row, signs of rows flipped at random, two-sided, "
    "corrected by Holm for the selectors of the board. P(better): how likely a run does better than one of random's on "
    "a test row, ties counted half.",
    f"A selector is called better or worse where p < {LEVEL} and the interval of the difference is without 0.",
)


def _grid(board: Leaderboard) -> Grid:
    entries = board.entries
    ranked = [entry.label for entry in entries if entry.verdict != "bound"]
    places = {name: str(place) for place, name in enumerate(ranked, 1)}
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
    head += [
        "difference",
        "difference_low",
        "difference_high",
        "paired_seeds",
        "p_holm",
        "p_better",
        "verdict",
        "seeds_tau",
    ]
    lines = []
    for board in boards:
        for entry in board.entries:
            cells: list[object] = [board.dataset, board.model, board.budget, board.metric, board.test_rows]
            cells += [entry.label, entry.seeds, entry.score.mean, entry.score.low, entry.score.high]
            one = entry.against
            cells += [one.difference.mean, one.difference.low, one.difference.high] if one else [None] * 3
            cells += [one.seeds, one.p, one.better] if one else [None] * 3
            lines.append([*cells, entry.verdict, board.stability])
    return csv_text(head, lines)
