"""Optimal transport from queries to a pool with a term against crowding (TSDS): a probability for every row."""

from typing import NamedTuple

import numpy as np

CELLS = 2**23
"""Distances that are held at a time, 64 MB of them."""


class Spread(NamedTuple):
    """`share`: what each query gives to its neighbours, [m, K], rows sum to 1. `s`: how far they were spread."""

    share: np.ndarray
    s: float


class Nearest(NamedTuple):
    """Of each query the nearest rows: `rows` [m, K] int64 and `distance` [m, K], nearest first. `of_row`: of each row
    the distance to its nearest query, [N]."""

    rows: np.ndarray
    distance: np.ndarray
    of_row: np.ndarray


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

    Work N m d, and n^2 d for the n rows that are a neighbour of some query. Memory: the vectors in float64, 50 bytes
    for each of the m x K neighbours, and blocks of `CELLS` distances (at least one query with all rows); never m x N or
    n x n.

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
    nearest = nearest_rows(pool, queries, neighbours)
    union = np.unique(nearest.rows)
    density = np.zeros(len(pool))
    density[union] = densities(pool[union], kde_neighbours, sigma)
    found = spread(nearest.distance, density[nearest.rows], alpha, c)
    given = found.share.ravel() / len(queries)
    probability = np.bincount(nearest.rows.ravel(), weights=given, minlength=len(pool))
    return Transport(probability, density, nearest.of_row, found.s)


def nearest_rows(pool: np.ndarray, queries: np.ndarray, neighbours: int) -> Nearest:
    """The `neighbours` nearest rows of each query by Euclidean distance, equally near ones in order of position."""
    rows = np.empty((len(queries), neighbours), dtype=np.int64)
    distance, of_row = np.empty((len(queries), neighbours)), np.full(len(pool), np.inf)
    step = max(1, CELLS // len(pool))
    for start in range(0, len(queries), step):
        here = slice(start, start + step)
        block = np.sqrt(_squared_distances(queries[here], pool))
        rows[here] = np.argsort(block, axis=1, kind="stable")[:, :neighbours]
        distance[here] = np.take_along_axis(block, rows[here], axis=1)
        np.minimum(of_row, block.min(axis=0), out=of_row)
    return Nearest(rows, distance, of_row)


def densities(points: np.ndarray, neighbours: int, sigma: float) -> np.ndarray:
    """How crowded it is around each point: sum of max(0, 1 - d^2 / sigma^2) over its nearest points, itself included.

    At least 1; an exact copy adds 1. Work n^2 d; memory blocks of `CELLS` float64.

    Args:
        points: [n, d]. neighbours: how many are summed over; all where there are fewer. sigma: above 0.

    Returns:
        [n] float64.
    """
    found = np.empty(len(points))
    step = max(1, CELLS // len(points))
    for start in range(0, len(points), step):
        squared = _squared_distances(points[start : start + step], points)
        if neighbours < len(points):
            squared = np.partition(squared, neighbours - 1, axis=1)[:, :neighbours]
        found[start : start + step] = np.maximum(1 - squared / sigma**2, 0).sum(axis=1)
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
