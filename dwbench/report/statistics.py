"""What can be said of small differences: intervals, tests and rankings over seeds and test rows. Arrays in and out.

`values` are scores by seed and test row, [seeds, rows]. Seeds and rows are crossed: every seed answers the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

DRAWS = 5000
CONFIDENCE = 0.95


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
class Resampling:
    """Draws of test rows, the same ones for everything that is compared on these rows.

    Attributes:
        weights: of the rows in each bootstrap sample, rows of which sum to 1; [draws, rows].
        signs: 1 or -1 for each row; [draws, rows].
        seed: of the draws, those of seeds included.
    """

    weights: np.ndarray
    signs: np.ndarray
    seed: int

    @classmethod
    def of(cls, rows: int, *, draws: int = DRAWS, seed: int = 0) -> "Resampling":
        """Raises ValueError without rows."""
        if rows < 1:
            raise ValueError("rows: there are none to draw from")
        rng = np.random.default_rng(seed)
        signs = rng.integers(0, 2, (draws, rows), dtype=np.int8).astype(np.float32) * 2 - 1
        return cls(_weights(rows, draws, rng), signs, seed)

    def interval(self, values: np.ndarray) -> Interval:
        """The mean over seeds and rows with its 95 % percentile interval.

        A draw takes seeds and rows with replacement, and the same rows of all its seeds (Owen 2007, "The pigeonhole
        bootstrap"). Of one seed only rows are drawn: the interval then says nothing of other seeds. What a few seeds
        say of seeds is little: with three the interval is a rough one.
        """
        seeds = _weights(len(values), len(self.weights), np.random.default_rng([self.seed, 1]))
        means = ((self.weights @ values.T.astype(np.float32)) * seeds).sum(axis=1)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(means, [tail, 1 - tail])
        return Interval(float(values.mean()), float(low), float(high))

    def p_value(self, differences: np.ndarray) -> float:
        """Two-sided p of a mean paired difference of 0: signs of rows are flipped at random (Fisher's randomisation).

        Args:
            differences: by row, the mean over seeds; [rows].
        """
        observed = abs(float(differences.sum()))
        flipped = np.abs(self.signs @ differences.astype(np.float32))
        # Sums that are equal but for rounding are equal: with 0 and 1 as scores there are many.
        rounding = 1e-6 * float(np.abs(differences).sum())
        as_large = int((flipped >= observed - rounding).sum())
        return (as_large + 1) / (len(self.signs) + 1)


def _weights(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Shares of the n units in `draws` samples of n with replacement; float32 [draws, n]."""
    drawn = rng.integers(0, n, (draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float32) / n


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
