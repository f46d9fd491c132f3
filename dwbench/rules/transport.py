"""Optimal transport from queries to a pool with a term against crowding (TSDS): a probability for every row."""

from typing import NamedTuple

import numpy as np

CHUNK = 512
"""Rows whose distances to others are worked out together."""


class Spread(NamedTuple):
    """`share`: what each query gives to its neighbours, [m, K], rows sum to 1. `s`: how far they were spread."""

    share: np.ndarray
    s: float


class Transport(NamedTuple):
    """A transport plan's marginal over the pool.

    Attributes:
        probability: of every row, [N] float64, sums to 1.
        density: of the rows that are a neighbour of some query, 0 for others, [N].
        distance: of every row to its nearest query, [N].
        s: how far the queries' mass was spread.
    """

    probability: np.ndarray
    density: np.ndarray
    distance: np.ndarray
    s: float


def transport(
    pool: np.ndarray,
    queries: np.ndarray,
    neighbours: int,
    kde_neighbours: int,
    sigma: float,
    alpha: float,
    c: float,
) -> Transport:
    """Probabilities by KNN-KDE (Liu et al., NeurIPS 2024, Algorithm 2), in float64, with exact neighbours.

    Every query has 1/m to give, to its nearest rows by Euclidean distance; equally near ones in order of position.

    Args:
        pool: [N, d]. queries: [m, d], at least one.
        neighbours: rows that a query can give to, at most N. kde_neighbours: rows that a density is summed over.
        sigma: width of the density's kernel. alpha, c: as for `spread`.

    Raises ValueError without queries, or unless 1 <= neighbours <= N.
    """
    if not len(queries):
        raise ValueError("transport takes at least one query")
    if not 1 <= neighbours <= len(pool):
        raise ValueError(f"{neighbours} neighbours among {len(pool)} rows")
    distances = np.empty((len(queries), len(pool)))
    for start in range(0, len(pool), CHUNK):
        distances[:, start : start + CHUNK] = np.sqrt(_squared_distances(queries, pool[start : start + CHUNK]))
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :neighbours]
    union = np.unique(nearest)
    density = np.zeros(len(pool))
    density[union] = densities(pool[union], kde_neighbours, sigma)
    found = spread(np.take_along_axis(distances, nearest, axis=1), density[nearest], alpha, c)
    given = found.share.ravel() / len(queries)
    probability = np.bincount(nearest.ravel(), weights=given, minlength=len(pool))
    return Transport(probability, density, distances.min(axis=0), found.s)


def densities(points: np.ndarray, neighbours: int, sigma: float) -> np.ndarray:
    """How crowded it is around each point: sum of max(0, 1 - d^2 / sigma^2) over its nearest points, itself included.

    At least 1; an exact copy adds 1.

    Args:
        points: [n, d]. neighbours: how many are summed over; all where there are fewer. sigma: above 0.

    Returns:
        [n] float64.
    """
    found = np.empty(len(points))
    for start in range(0, len(points), CHUNK):
        squared = _squared_distances(points[start : start + CHUNK], points)
        if neighbours < len(points):
            squared = np.partition(squared, neighbours - 1, axis=1)[:, :neighbours]
        found[start : start + CHUNK] = np.maximum(1 - squared / sigma**2, 0).sum(axis=1)
    return found


def spread(distance: np.ndarray, density: np.ndarray, alpha: float, c: float) -> Spread:
    """Shares that move mass from near to far neighbours as long as alpha / c times the cost is below (1 - alpha) m.

    At spread s a query gives 1 / (s density) to each neighbour from the nearest on, until its 1 is given away; its
    farthest neighbour takes whatever is left. s grows over the points at which some query runs full, to the first one
    where the cost of growing on, summed over queries, reaches the limit; to the last one where none does.

    Args:
        distance: of each query to its neighbours, ascending, [m, K]. density: of these neighbours, above 0, [m, K].
        alpha: weight of closeness against diversity, in [0, 1]. c: scale of the distances, above 0.
    """
    queries = len(distance)
    full_at = np.cumsum(1 / density, axis=1)
    points = full_at[:, :-1].ravel()
    s = float(full_at.max())
    if points.size:
        # Where a query's k nearest are full its cost is sum_i<k (d_k - d_i) / density_i; this is what the last adds.
        added = (full_at[:, :-1] * np.diff(distance, axis=1)).ravel()
        order = np.argsort(points, kind="stable")
        reached = alpha / c * np.cumsum(added[order]) >= (1 - alpha) * queries
        s = float(points[order[np.argmax(reached) if reached.any() else -1]])
    full_at[:, -1] = np.inf
    return Spread(np.diff(np.minimum(full_at, s), axis=1, prepend=0.0) / s, s)


def _squared_distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[some, others] float64, never below 0."""
    left, right = np.asarray(some, dtype=np.float64), np.asarray(others, dtype=np.float64)
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * (left @ right.T)
    return np.asarray(np.maximum(squared, 0.0))
