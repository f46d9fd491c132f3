"""Selectors in order of quality, and what of that order is more than chance; from the scores by test row in records.
`leaderboard_view` draws it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dwbench.component import canonical_json
from dwbench.errors import UserError
from dwbench.records import Record
from dwbench.report.contenders import Contender, Evaluation, different, pairs
from dwbench.report.formats import arrow
from dwbench.report.labels import told_apart
from dwbench.report.overall import Overall, over_budgets
from dwbench.report.statistics import (
    Interval,
    Resampling,
    holm,
    probability_of_improvement,
    rank_stability,
    ranks,
)
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
        unsteady: selectors without the seeds that the ranking was repeated under, which `stability` leaves out.
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
    unsteady: tuple[str, ...] = ()

    @property
    def ranked(self) -> list[Entry]:
        """All but the bounds, best first."""
        return [entry for entry in self.entries if entry.verdict != "bound"]

    @property
    def places(self) -> dict[str, float]:
        """By label of the ranked, 1 the best; equals share the mean of theirs."""
        if not self.ranked:
            return {}
        scores = np.array([[_sign(self.metric) * entry.score.mean for entry in self.ranked]])
        return dict(zip((entry.label for entry in self.ranked), ranks(scores)[0].tolist(), strict=True))

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
    return list(standings(boards).values())


def standings(boards: Sequence[Leaderboard]) -> dict[tuple[str, str], Overall]:
    """`overall`, by setting and metric."""
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
    repeated = _repeated(scores)
    return Leaderboard(
        title=f"{setting}: {rows:,} rows, {metric} {arrow(metric)}",
        dataset=section.dataset,
        model=section.model,
        budget=rows,
        metric=metric,
        test_rows=n,
        entries=tuple(entries),
        stability=_stability(repeated),
        setting=setting,
        unsteady=tuple(name for name in scores if name not in repeated),
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
    # One seed compares one adapter with one other: the luck of both draws is in it, whatever the test rows say.
    if against.seeds == 1 or against.p >= LEVEL or not against.difference.excludes_zero:
        return UNCLEAR
    return "better than random" if sign * against.difference.mean > 0 else "worse than random"


def _repeated(scores: dict[str, dict[int, Evaluation]]) -> dict[str, dict[int, Evaluation]]:
    """Those under all seeds that more than half of them have; all, where these are fewer than two."""
    seeds = Counter(seed for by_seed in scores.values() for seed in by_seed)
    common = {seed for seed, count in seeds.items() if 2 * count > len(scores)}
    found = {name: by_seed for name, by_seed in scores.items() if common <= by_seed.keys()}
    return found if len(common) > 1 and len(found) > 1 else scores


def _stability(scores: dict[str, dict[int, Evaluation]]) -> float | None:
    common = sorted(set.intersection(*(set(by_seed) for by_seed in scores.values())))
    # A seed under which nothing differs from another agrees with it of itself.
    once = {tuple(by_seed[seed].artefact for by_seed in scores.values()): seed for seed in common}
    means = [[by_seed[seed].scores.mean() for by_seed in scores.values()] for seed in once.values()]
    return rank_stability(np.array(means)) if means else None
