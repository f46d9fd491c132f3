"""What can be said of small differences: intervals, tests and rankings over seeds and test rows. Arrays in and out.

`values` are scores by seed and test row, [seeds, rows]. Seeds and rows are crossed: every seed answers the same rows.
Of several seeds a model of crossed random effects speaks (`crossed`), of one seed draws of the rows (`Resampling`): two
to five seeds are too few to draw from, a bootstrap of them is too narrow.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

DRAWS = 5000
CONFIDENCE = 0.95
BLOCK = 1 << 20
"""Draws x rows that are held at a time: under 50 MB, however many rows there are (of more than this, one draw)."""


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and rows, its standard error and the degrees of freedom of Student's t that go with it."""

    mean: float
    stderr: float
    df: float

    def interval(self) -> Interval:
        """The mean with its 95 % interval by Student's t."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.df, (1 + CONFIDENCE) / 2)) * self.stderr
        return Interval(self.mean, self.mean - half, self.mean + half)

    def p_value(self) -> float:
        """Two-sided p of a mean of 0."""
        from scipy.special import stdtr

        if self.stderr == 0:
            return float(self.mean == 0)
        return 2 * float(stdtr(self.df, -abs(self.mean) / self.stderr))


def crossed(values: np.ndarray) -> Estimate:
    """The mean over seeds and rows, both of them random: what other seeds and other rows would give is in its error.

    The model is score = mean + seed + row + rest, one observation a cell. With the mean squares of seeds, rows and rest
    the variance of the mean is (MS_seeds + MS_rows - MS_rest) / (seeds x rows): the crossed two-way random model
    (Searle, Casella & McCulloch 1992, "Variance Components"; with rows for items, the quasi-F of Clark 1973, "The
    language-as-fixed-effect fallacy"). A negative component counts as 0. Degrees of freedom: Satterthwaite 1946, "An
    approximate distribution of estimates of variance components", at least 1.

    Where seeds differ far more than chance of the rows explains, two seeds are a rough basis: the 95 % interval then
    covers down to 88 %; from three seeds on 92 to 99 %.

    Args:
        values: [seeds, rows], at least two seeds. Raises ValueError with fewer.
    """
    seeds, rows = values.shape
    if seeds < 2:
        raise ValueError("seeds: one tells nothing of others")
    mean = float(values.mean())
    of_seed, of_row = values.mean(axis=1) - mean, values.mean(axis=0) - mean
    rest = values - mean - of_seed[:, None] - of_row
    # One row has no variance of rows: 0 / 1.
    degrees = np.maximum([seeds - 1, rows - 1, (seeds - 1) * (rows - 1)], 1)
    squares = np.array([rows * (of_seed**2).sum(), seeds * (of_row**2).sum(), (rest**2).sum()]) / degrees
    by_seed, by_row, by_chance = squares
    total = float(max(by_seed, by_chance) + max(by_row, by_chance) - by_chance)
    df = max(1.0, total**2 / float((squares**2 / degrees).sum())) if total > 0 else 1.0
    return Estimate(mean, math.sqrt(total / values.size), df)


@dataclass(frozen=True)
class Resampling:
    """Intervals and tests of everything that is compared on the same test rows.

    Of several seeds by `crossed`. Of one seed by draws of the rows, the same ones for all: the interval and the test
    then say nothing of other seeds.
    """

    rows: int
    draws: int
    seed: int

    @classmethod
    def of(cls, rows: int, *, draws: int = DRAWS, seed: int = 0) -> "Resampling":
        """Raises ValueError without rows."""
        if rows < 1:
            raise ValueError("rows: there are none to draw from")
        return cls(rows, draws, seed)

    def interval(self, values: np.ndarray) -> Interval:
        """`intervals` of one."""
        return self.intervals([values])[0]

    def intervals(self, values: Sequence[np.ndarray]) -> list[Interval]:
        """The mean of each over seeds and rows, with its 95 % interval.

        One seed: percentiles of the means of rows drawn with replacement. Several: Student's t.

        Args:
            values: each [seeds, rows]; numbers of seeds may differ.
        """
        drawn = iter(self._bootstrap([one[0] for one in values if len(one) == 1]))
        return [next(drawn) if len(one) == 1 else crossed(one).interval() for one in values]

    def p_value(self, differences: np.ndarray) -> float:
        """`p_values` of one."""
        return self.p_values([differences])[0]

    def p_values(self, differences: Sequence[np.ndarray]) -> list[float]:
        """Two-sided p of each mean paired difference of 0.

        One seed: signs of rows are flipped at random (Fisher's randomisation). Several: Student's t.

        Args:
            differences: each [seeds, rows], or [rows] of one seed.
        """
        every = [np.atleast_2d(one) for one in differences]
        flipped = iter(self._flips([one[0] for one in every if len(one) == 1]))
        return [next(flipped) if len(one) == 1 else crossed(one).p_value() for one in every]

    def _bootstrap(self, values: Sequence[np.ndarray]) -> list[Interval]:
        if not values:
            return []
        by_row = np.stack(values, axis=1)
        rng = np.random.default_rng([self.seed, 0])
        means = np.concatenate([_times_drawn(self.rows, draws, rng) @ by_row for draws in self._blocks()]) / self.rows
        tail = (1 - CONFIDENCE) / 2
        ends = np.quantile(means, [tail, 1 - tail], axis=0)
        return [
            Interval(float(one.mean()), float(low), float(high))
            for one, (low, high) in zip(values, ends.T, strict=True)
        ]

    def _flips(self, differences: Sequence[np.ndarray]) -> list[float]:
        if not differences:
            return []
        by_row = np.stack(differences, axis=1)
        # Sums that are equal but for rounding are equal: with 0 and 1 as scores there are many.
        least = np.abs(by_row.sum(axis=0)) - 1e-9 * np.abs(by_row).sum(axis=0)
        rng = np.random.default_rng([self.seed, 1])
        as_large = np.zeros(len(differences))
        for draws in self._blocks():
            signs = rng.integers(0, 2, (draws, self.rows)) * 2.0 - 1.0
            as_large += (np.abs(signs @ by_row) >= least).sum(axis=0)
        return [float((count + 1) / (self.draws + 1)) for count in as_large]

    def _blocks(self) -> Iterator[int]:
        """How many draws at a time."""
        at_once = max(1, BLOCK // self.rows)
        for done in range(0, self.draws, at_once):
            yield min(at_once, self.draws - done)


def _times_drawn(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n units is in each of `draws` samples of n with replacement; float64 [draws, n]."""
    drawn = rng.integers(0, n, (draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979), in their order; at most 1."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, stepped)
    return [float(value) for value in corrected]


def probability_of_improvement(values: np.ndarray, others: np.ndarray) -> float:
    """How likely a run does better than one of the others on a test row; ties count half (Agarwal et al. 2021, with
    test rows for tasks).

    Over all pairs of seeds and all rows. Higher scores are better. 0.5: neither is better.

    Args:
        values, others: [seeds, rows] of the same rows; numbers of seeds may differ.
    """
    wins = (values[:, None] > others[None]).mean() + (values[:, None] == others[None]).mean() / 2
    return float(wins)


def rank_stability(scores: np.ndarray) -> float | None:
    """How far seeds agree on the ranking: the mean of Kendall's tau-b over pairs of seeds; 1: fully, 0: not at all.

    None with fewer than two seeds or selectors, or where a seed ranks all alike.

    Args:
        scores: mean score by seed and selector; [seeds, selectors].
    """
    from scipy.stats import kendalltau

    seeds, selectors = scores.shape
    if seeds < 2 or selectors < 2:
        return None
    taus = [float(kendalltau(one, other).statistic) for one, other in combinations(scores, 2)]
    mean = sum(taus) / len(taus)
    return None if np.isnan(mean) else mean


def ranks(scores: np.ndarray) -> np.ndarray:
    """Places by row of `scores`, 1 the highest; equals share the mean of theirs; float64 [budgets, selectors]."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-scores, axis=1), dtype=np.float64)
