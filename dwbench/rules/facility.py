"""Facility location: rows that stand for all rows, chosen greedily: at least 1 - 1/e of the best (Nemhauser 1978).

FL(S) is the sum over all rows v of the largest similarity s(a, v) of a row a in S, and at least 0 each, so that
negative similarities count as none.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from scipy.sparse import csr_array

from dwbench.rules.facility_loops import gained, lost
from dwbench.rules.finite import check_finite
from dwbench.rules.largest import largest

ALL = slice(None)


class Similarities(Protocol):
    """Symmetric similarities of N rows, none NaN: those of the rows at `positions` [m] with the rows of `columns`,
    [m, columns] in float32 or float64; in `out`, or else in a new array in C order."""

    def __call__(self, positions: np.ndarray, columns: slice = ALL, out: np.ndarray | None = None) -> np.ndarray: ...


HELD = 1_600_000_000
"""Bytes of similarities that are held at most: of 20,000 rows in float32, of 14,142 in float64. Those of more rows are
worked out whenever they are needed."""

CHUNK = 512
"""Rows of similarities that are worked out together: BLAS is slower with fewer."""

TIE = {4: 1e-7, 8: 1e-11}
"""Gains that differ by no more than this times the square root of the number of rows are equal: so much is rounding,
for similarities around 1. By the bytes of a similarity."""

NEAR_TIE = {4: 1e-9, 8: 1e-12}
"""The same on a graph, times the number of neighbours."""

SAME = 1e-12
"""Squared distance below which two unit vectors in float32 are the same; without it, rounding tells copies apart."""

MEDIAN_ROWS = 1000
"""Rows whose distances the width of a kernel is worked out from."""


class Cover(NamedTuple):
    """`picks`: positions in the order in which they were chosen, [k] int64. `gains`: what each added, [k] float64."""

    picks: np.ndarray
    gains: np.ndarray


class Graph(NamedTuple):
    """For every row its most similar ones, itself among them: positions `rows` [N, K] int32 and `similarity` [N, K]."""

    rows: np.ndarray
    similarity: np.ndarray


def facility_location(
    similarities: Similarities,
    n: int,
    k: int,
    weight: float = 1.0,
    worth: np.ndarray | None = None,
    relative: bool = False,
) -> Cover:
    """k of n rows for which weight x FL + the sum of their `worth` grows greedily, by default FL alone.

    The result is that of the plain greedy algorithm; of equal gains the first row wins. All gains are kept up to date:
    a pick lowers those of others only by what the rows that are nearer to it than to any earlier pick lose, and
    these get few, about N / i for the i-th pick. So all picks together cost about 1 + ln k passes over the N x N
    similarities, where evaluating anew costs one row of N for each look at a candidate.

    Memory: N x N similarities up to `HELD` bytes; beyond that a block of `CHUNK` x N, and each pass works them out
    again. For `rbf` four such blocks more.

    Args:
        weight: at least 0. worth: what a row adds whatever else is chosen, [n]; None: nothing.
        relative: whether FL is divided by the largest FL of a single row, so that the first gain of FL is 1.

    Returns:
        The rows, and weight x gain + worth of each.

    Raises ValueError unless 0 <= k <= n.
    """
    _check(n, k)
    rows = _Rows(similarities, n)
    covered = np.zeros(n, dtype=rows.dtype)
    picks, values = np.empty(k, dtype=np.int64), np.empty(k)
    gains = _lost(rows, np.arange(n), covered, np.full_like(covered, np.inf))
    if relative and gains.max(initial=0.0) > 0:
        weight = weight / float(gains.max())
    tie = weight * TIE[rows.dtype.itemsize] * math.sqrt(n)
    value = weight * gains + (0.0 if worth is None else np.asarray(worth, dtype=np.float64))
    for turn in range(k):
        pick = int((value >= value.max() - tie).argmax())
        picks[turn], values[turn] = pick, value[pick]
        value[pick] = -np.inf
        reach = rows.row(pick)
        nearer = np.flatnonzero(reach > covered)
        value -= weight * _lost(rows, nearer, covered[nearer], reach[nearer])
        covered[nearer] = reach[nearer]
    return Cover(picks, values)


def stochastic_facility_location(similarities: Similarities, n: int, k: int, epsilon: float, seed: int) -> Cover:
    """The same with only n / k x ln(1 / epsilon) candidates at each turn, drawn anew from the rows that are left.

    1 - 1/e - epsilon of the best in expectation (Mirzasoleiman et al. 2015), by n x ln(1 / epsilon) rows of
    similarities in all. Of equal gains the first row wins. Memory as `facility_location`; beyond `HELD` bytes a row is
    worked out whenever it is drawn or chosen.

    Raises ValueError unless 0 <= k <= n and 0 < epsilon < 1.
    """
    _check(n, k)
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon: must be above 0 and below 1, not {epsilon}")
    generator = np.random.default_rng(seed)
    left = np.arange(n)
    rows = _Rows(similarities, n)
    covered = np.zeros(n, dtype=rows.dtype)
    tie = TIE[covered.itemsize] * math.sqrt(n)
    picks, gains = np.empty(k, dtype=np.int64), np.empty(k)
    for turn in range(k):
        size = min(len(left), math.ceil(n / k * math.log(1 / epsilon)))
        drawn = np.sort(generator.choice(left, size, replace=False, shuffle=False))
        gain = _gained(rows, drawn, covered)
        best = int((gain >= gain.max() - tie).argmax())
        picks[turn], gains[turn] = drawn[best], gain[best]
        np.maximum(covered, rows.row(int(picks[turn])), out=covered)
        left = left[left != picks[turn]]
    return Cover(picks, gains)


def sparse_facility_location(graph: Graph, k: int) -> Cover:
    """The same on a graph: similarities that are not in it are 0. With all rows as neighbours, `facility_location`.

    A row that serves nobody new adds nothing; of equal gains the first row wins. The gains are those on the graph, so
    that their sum is a lower bound of FL. Memory at its peak: 44 bytes for each of the N x K similarities, the graph
    included.

    Raises ValueError unless 0 <= k <= N.
    """
    n, width = graph.rows.shape
    _check(n, k)
    to, similarity = graph.rows.ravel(), graph.similarity.ravel()
    ends = np.arange(0, n * width + 1, width)
    by_end = csr_array((np.arange(n * width), to, ends), shape=(n, n)).tocsc()
    edges, first = by_end.data, by_end.indptr  # those that lead to the first row, then to the second, ...
    covered = np.zeros(n, dtype=graph.similarity.dtype)
    gains = np.bincount(to, weights=np.maximum(similarity, 0), minlength=n)
    picks, added = np.empty(k, dtype=np.int64), np.empty(k)
    for turn in range(k):
        pick = int((gains >= gains.max() - NEAR_TIE[covered.itemsize] * width).argmax())
        picks[turn], added[turn] = pick, gains[pick]
        served = edges[first[pick] : first[pick + 1]]
        served = served[similarity[served] > covered[served // width]]
        nearer, after = served // width, similarity[served]
        before = covered[nearer]
        fall = np.maximum(np.minimum(graph.similarity[nearer], after[:, None]), before[:, None]) - before[:, None]
        gains -= np.bincount(graph.rows[nearer].ravel(), weights=fall.ravel(), minlength=n)
        gains[pick] = -np.inf
        covered[nearer] = after
    return Cover(picks, added)


def nearest_graph(similarities: Similarities, n: int, neighbours: int) -> Graph:
    """Every row's `neighbours` most similar rows (all where there are fewer), itself always among them.

    Exact search, in chunks: no N x N numbers. Memory: 8 bytes for each of the N x K similarities in float32, a block of
    `CHUNK` x N, and what `largest` takes. Of equally similar rows at the limit any may be taken.
    """
    width = min(n, neighbours)
    rows = np.empty((n, width), dtype=np.int32)
    similarity = np.empty((n, width), dtype=_dtype(similarities, n))
    for start in range(0, n, CHUNK):
        here = np.arange(start, min(start + CHUNK, n))
        block = similarities(here)
        own = block[here - start, here]
        block[here - start, here] = np.inf
        rows[here], found = largest(block, width)
        similarity[here] = np.where(np.isinf(found), own[:, None], found)
    return Graph(rows, similarity)


def objective(similarities: Similarities, n: int, picks: np.ndarray) -> float:
    """FL of the rows at `picks`. Memory: `CHUNK` x N similarities."""
    nearest = np.zeros(n)
    for start in range(0, len(picks), CHUNK):
        np.maximum(nearest, similarities(picks[start : start + CHUNK]).max(axis=0), out=nearest)
    return float(nearest.sum())


def of_matrix(matrix: np.ndarray) -> Similarities:
    """Similarities that are given, [N, N], symmetric."""

    def similarities(positions: np.ndarray, columns: slice = ALL, out: np.ndarray | None = None) -> np.ndarray:
        block = np.asarray(matrix[positions, columns], dtype=np.float64)
        if out is None:
            return block
        out[...] = block
        return out

    return similarities


def cosine(vectors: np.ndarray, precision: type[np.floating] = np.float64) -> Similarities:
    """Cosine of unit vectors [N, d]. Raises ValueError for a row that is not finite."""
    check_finite(vectors)
    points = np.asarray(vectors, dtype=precision)

    def similarities(positions: np.ndarray, columns: slice = ALL, out: np.ndarray | None = None) -> np.ndarray:
        return np.asarray(np.matmul(points[positions], points[columns].T, out=out))

    return similarities


def rbf(vectors: np.ndarray) -> Similarities:
    """exp(-|u - v| / d) of vectors [N, d]: the distance is not squared (submodlib's kernel for `euclidean`).

    For unit vectors all values are close to 1 (above 0.994 at d = 384), so single precision would not do. Raises
    ValueError for a row that is not finite.
    """
    check_finite(vectors)
    points = np.asarray(vectors, dtype=np.float64)
    squares = (points**2).sum(axis=1)

    def similarities(positions: np.ndarray, columns: slice = ALL, out: np.ndarray | None = None) -> np.ndarray:
        squared = squares[positions, None] + squares[columns] - 2 * (points[positions] @ points[columns].T)
        distance = np.sqrt(np.where(squared < SAME, 0.0, squared))
        return np.asarray(np.exp(-distance / points.shape[1], out=out))

    return similarities


def gaussian(vectors: np.ndarray, gamma: float) -> Similarities:
    """exp(-gamma |u - v|^2) of vectors [N, d], in float32. Raises ValueError for a row that is not finite."""
    check_finite(vectors)
    points = np.asarray(vectors, dtype=np.float32)
    squares = np.einsum("nd,nd->n", points, points)

    def similarities(positions: np.ndarray, columns: slice = ALL, out: np.ndarray | None = None) -> np.ndarray:
        block = np.matmul(points[positions], points[columns].T, out=out)
        block *= -2
        block += squares[columns]
        block += squares[positions, None]
        np.maximum(block, 0, out=block)
        block *= np.float32(-gamma)
        return np.asarray(np.exp(block, out=block))

    return similarities


def median_gamma(vectors: np.ndarray) -> float:
    """1 / the median squared distance of two different rows, of the first `MEDIAN_ROWS`; 1 where that is 0.

    Rows of a pool come in an order by their content's hashes, so the first are as good as drawn ones.
    """
    points = np.asarray(vectors[:MEDIAN_ROWS], dtype=np.float64)
    squares = (points**2).sum(axis=1)
    squared = squares[:, None] + squares - 2 * (points @ points.T)
    pairs = squared[np.triu_indices(len(points), 1)]
    median = float(np.median(pairs)) if pairs.size else 0.0
    return 1 / median if median > SAME else 1.0


class _Rows:
    """Similarities of n rows, held in memory where they are few enough: then only those above the diagonal are worked
    out."""

    def __init__(self, similarities: Similarities, n: int) -> None:
        self.dtype = _dtype(similarities, n)
        self.n, self._of = n, similarities
        self._held = _matrix(similarities, n, self.dtype) if n * n * self.dtype.itemsize <= HELD else None
        self._room = np.empty((CHUNK if self._held is None else 0, n), dtype=self.dtype)

    def row(self, position: int) -> np.ndarray:
        rows, place = (self._of(np.array([position])), 0) if self._held is None else (self._held, position)
        return np.asarray(rows[place])

    def parts(self, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, slice]]:
        """The positions part by part: a block of similarities, which of its rows are theirs, and which part it is."""
        if self._held is not None:
            yield self._held, positions, ALL
            return
        for start in range(0, len(positions), CHUNK):
            part = slice(start, min(start + CHUNK, len(positions)))
            count = part.stop - start
            yield self._of(positions[part], out=self._room[:count]), np.arange(count), part


def _matrix(similarities: Similarities, n: int, dtype: np.dtype[np.floating]) -> np.ndarray:
    matrix = np.empty((n, n), dtype=dtype)
    for start in range(0, n, CHUNK):
        stop = min(start + CHUNK, n)
        block = similarities(np.arange(start, stop), slice(start, None), matrix[start:stop, start:])
        matrix[stop:, start:stop] = block[:, stop - start :].T
    return matrix


def _dtype(similarities: Similarities, n: int) -> np.dtype[np.floating]:
    return similarities(np.arange(min(n, 1))).dtype


def _lost(rows: _Rows, served: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """By how much each row's gain falls as the rows `served` [m], so far covered to `before`, are to `after`; [N]."""
    total = np.zeros(rows.n)
    for block, places, part in rows.parts(served):
        lost(block, places, before[part], after[part], total)
    return total


def _gained(rows: _Rows, candidates: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """What each of the candidates [m] would add to FL where rows are `covered` [N] so far; [m]."""
    gains = np.empty(len(candidates))
    for block, places, part in rows.parts(candidates):
        gained(block, places, covered, gains[part])
    return gains


def _check(n: int, k: int) -> None:
    if not 0 <= k <= n:
        raise ValueError(f"k = {k} of {n} rows")
