"""Facility location: rows that stand for all rows, chosen greedily."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Similarities = Callable[[np.ndarray], np.ndarray]
"""From positions [m] to their similarities with all rows, [m, N] float64. No matrix of all pairs is ever held."""

FIRST_LOOK, CHUNK = 8, 256
"""Candidates whose gain is worked out together: at first for a pick, and at most; doubled from look to look."""

TIE = 1e-12
"""Gains that differ by no more than this for each row are equal: so much is rounding, for similarities around 1."""

SAME = 1e-12
"""Squared distance below which two unit vectors in float32 are the same; without it, rounding tells copies apart."""


class Cover(NamedTuple):
    """`picks`: positions in the order in which they were chosen, [k] int64. `gains`: what each added, [k] float64."""

    picks: np.ndarray
    gains: np.ndarray


def facility_location(similarities: Similarities, n: int, k: int) -> Cover:
    """k of n rows for which the sum over all rows of the similarity to the nearest chosen one grows greedily.

    A row's similarity counts from 0 up, so that negative ones add nothing. Of equal gains the first row wins. The
    result is that of the plain greedy algorithm; the evaluation is lazy: a gain never grows, so a row whose last known
    gain is below the best is not looked at again (Minoux 1978). Each look costs one row of similarities: n of them for
    the first pick, then usually few.

    Raises ValueError unless 0 <= k <= n.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k = {k} of {n} rows")
    covered = np.zeros(n)
    bound = np.full(n, np.inf)
    picks = np.empty(k, dtype=np.int64)
    gains = np.empty(k)
    for turn in range(k):
        fresh = np.zeros(n, dtype=np.bool_)
        least = 0.0  # no gain is negative; the bounds of picked rows are
        look = FIRST_LOOK
        while (stale := np.flatnonzero(~fresh & (bound >= least))).size:
            looked_at = stale[np.argsort(-bound[stale], kind="stable")[:look]]
            bound[looked_at] = np.maximum(similarities(looked_at) - covered, 0.0).sum(axis=1)
            fresh[looked_at] = True
            least = max(least, float(bound[looked_at].max()) - TIE * n)
            look = min(2 * look, CHUNK)
        pick = np.flatnonzero(fresh & (bound >= least))[0]
        picks[turn], gains[turn] = pick, bound[pick]
        covered = np.maximum(covered, similarities(np.array([pick]))[0])
        bound[pick] = -1.0
    return Cover(picks, gains)


def of_matrix(matrix: np.ndarray) -> Similarities:
    """Similarities that are given, [N, N]."""
    return lambda positions: np.asarray(matrix[positions], dtype=np.float64)


def cosine(vectors: np.ndarray) -> Similarities:
    """Cosine of unit vectors [N, d]."""
    points = np.asarray(vectors, dtype=np.float64)
    return lambda positions: np.asarray(points[positions] @ points.T)


def rbf(vectors: np.ndarray) -> Similarities:
    """exp(-|u - v| / d) of vectors [N, d]: the distance is not squared (submodlib's kernel for `euclidean`).

    For unit vectors all values are close to 1 (above 0.994 at d = 384), so single precision would not do.
    """
    points = np.asarray(vectors, dtype=np.float64)
    squares = (points**2).sum(axis=1)

    def similarities(positions: np.ndarray) -> np.ndarray:
        squared = squares[positions, None] + squares - 2 * (points[positions] @ points.T)
        distance = np.sqrt(np.where(squared < SAME, 0.0, squared))
        return np.asarray(np.exp(-distance / points.shape[1]))

    return similarities
