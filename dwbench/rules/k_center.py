"""k-center by farthest-first traversal: rows that leave no row far from all of them (Gonzalez 1985: at most twice the
best radius)."""

from typing import NamedTuple

import numpy as np

from dwbench.rules.finite import check_finite

TIE = 1e-5
"""Distances that differ by less, as a share of their squares, are equal: embeddings themselves are good to this."""

CANCELS = 0.01
"""A squared distance below so much of the sum of both squared lengths is not taken from dot products: in float32 little
of it would be right, and next to nothing of it where rows are nearly copies."""

CHUNK = 256
"""Rows whose distances to all rows are held at a time."""


class Spread(NamedTuple):
    """What `k_center` found.

    Attributes:
        picks: positions in the order in which they were chosen, [k] int64.
        radii: distance of each pick to the nearest row chosen before it, [k] float64, descending but for rounding.
        radius: the largest distance of any row to the nearest chosen one at the end.
    """

    picks: np.ndarray
    radii: np.ndarray
    radius: float


def k_center(points: np.ndarray, start: np.ndarray, k: int) -> Spread:
    """k rows beside those of `start`, each the farthest (Euclidean) from the rows before it; of equally far ones the
    first.

    Distances come from dot products of centred rows, those of near-copies from differences, so that all are right to
    1e-5 of themselves in float32. (DiverseEvol's code takes the roots of all dot-product distances; those of
    near-copies come out below 0, their roots are not numbers, and near-copies are chosen first.)

    Work (start + k) N d; memory a centred copy of the points and 5 N numbers.

    Args:
        points: [N, d], computed with in float32.
        start: positions of the rows that are chosen already, at least one, each once.
        k: how many more.

    Raises ValueError unless 1 <= start and k <= N - start, and for a row that is not finite.
    """
    points = np.asarray(points, dtype=np.float32)
    n = len(points)
    if not 1 <= len(start) <= n or not 0 <= k <= n - len(start):
        raise ValueError(f"k = {k} of {n} rows, {len(start)} of which are chosen already")
    distances = _Distances(points)
    nearest = np.full(n, np.inf, dtype=np.float32)
    for row in start:
        distances.approach(nearest, int(row))
    nearest[start] = -np.inf
    picks, squared = np.empty(k, dtype=np.int64), np.empty(k)
    for turn in range(k):
        farthest = nearest.max()
        pick = int((nearest >= farthest * np.float32(1 - TIE)).argmax())
        picks[turn], squared[turn] = pick, nearest[pick]
        distances.approach(nearest, pick)
        nearest[pick] = -np.inf
    left = float(nearest.max())
    return Spread(picks, np.sqrt(squared), left**0.5 if left > 0 else 0.0)


def nearest_other_distances(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Distance of each row at `rows` [m] to the nearest other one of the points [N, d]: [m] float64; NaN if N is 1.

    Large ones show that outliers were chosen. Memory `CHUNK` x N.
    """
    points = np.asarray(points, dtype=np.float32)
    if len(points) < 2:
        return np.full(len(rows), np.nan)
    centred = _centred(points)
    squares = np.einsum("nd,nd->n", centred, centred)
    found = np.empty(len(rows))
    for start in range(0, len(rows), CHUNK):
        here = rows[start : start + CHUNK]
        block = squares - 2 * (centred[here] @ centred.T)
        block[np.arange(len(here)), here] = np.inf
        nearest = block.argmin(axis=1)
        gaps = centred[nearest].astype(np.float64) - centred[here]
        found[start : start + CHUNK] = np.linalg.norm(gaps, axis=1)
    return found


class _Distances:
    """Squared distances of all rows to one of them, by the rows' products or differences."""

    def __init__(self, points: np.ndarray) -> None:
        check_finite(points)
        self._points = _centred(points)
        self._squares = np.einsum("nd,nd->n", self._points, self._points)

    def approach(self, nearest: np.ndarray, row: int) -> None:
        """Lower `nearest` [N], squared distances, to those to `row` where these are smaller."""
        point, lengths = self._points[row], self._squares + self._squares[row]
        squared = self._points @ point
        squared *= -2
        squared += lengths
        lengths *= CANCELS
        cancelled = np.flatnonzero((squared < lengths) & (squared < nearest))
        squared[cancelled] = ((self._points[cancelled] - point) ** 2).sum(axis=1)
        np.minimum(nearest, squared, out=nearest)


def _centred(points: np.ndarray) -> np.ndarray:
    """Minus their mean, which distances do not see but rounding does."""
    return np.asarray(points - points.mean(axis=0, dtype=np.float64).astype(np.float32))
