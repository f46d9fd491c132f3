"""Novelty: distances weighted by their rank and by the density of the pool. NovelSum of a set, and NovelSelect.

Yang et al., ACL 2025, "Measuring Data Diversity for Instruction Tuning". With d the cosine distance, s the density of a
row in the pool and r(j) the rank of d(x, x_j) among the rows of the set:

- `paper`: v(x) = sum over the other rows x_j of s(x_j) d(x, x_j) / r(j)^a;
- `reference`, the published code. Its metric has s(x) in place of s(x_j), and lets the row itself take the first rank.
  Its selector has s(x) + s(x_j), and ranks by the products and not by the distances.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from dwbench.rules.finite import check_finite
from dwbench.rules.matching import unit_rows

Form = Literal["paper", "reference"]

Distances = Callable[[np.ndarray], np.ndarray]
"""From positions [m] to their distances to all rows, [m, N], none below 0. No matrix of all pairs is ever held."""

TIE = 1e-5
"""Novelties that differ by less, relative to the best, are equal: embeddings themselves are good to this."""

FLOOR = 1e-9
"""Added to a mean squared distance, so that rows with copies have a density (the published code's)."""

CELLS = 2**16
"""Distances to picks that are worked on at a time: they and their temporaries stay in the cache."""

CHUNK = 256
"""Rows whose distances to all rows are held at a time."""


class Novel(NamedTuple):
    """What `novelselect` found.

    Attributes:
        picks: positions in the order in which they were chosen, [k] int64.
        values: novelty of each pick when it was chosen, [k] float64; NaN for the first, which was given.
        left: novelty of every row in view of all picks, [N] float64; of picked rows it means nothing.
    """

    picks: np.ndarray
    values: np.ndarray
    left: np.ndarray


def densities(vectors: np.ndarray, neighbours: int = 10, power: float = 0.5) -> np.ndarray:
    """Density of every row, [N] float64: (mean squared Euclidean distance to its nearest rows + 1e-9) ** -power.

    Copies of a row are one row here, as in the published code: a row that has ten would be infinitely dense. For unit
    vectors the squared distance is twice the cosine distance, a constant factor. 1 where all rows are the same.

    Work N^2 d; memory 256 x N numbers (12 bytes each: distances and their order) and two copies of the vectors.

    Args:
        vectors: [N, d], raw or unit.
        neighbours: how many nearest rows count; all others where there are fewer.
        power: 0: all densities are 1.

    Raises ValueError for a row that is not finite.
    """
    check_finite(vectors)
    different, place = np.unique(np.asarray(vectors) + 0.0, axis=0, return_inverse=True)  # -0.0 becomes 0.0
    count = min(neighbours, len(different) - 1)
    if count == 0:
        return np.ones(len(vectors))
    squares = np.einsum("nd,nd->n", different, different)
    mean = np.empty(len(different))
    for start in range(0, len(different), CHUNK):
        block = different[start : start + CHUNK]
        rows = np.arange(len(block))
        order = squares - 2 * (block @ different.T)  # the squared distance but for a constant in each row
        order[rows, start + rows] = np.inf
        near = np.argpartition(order, count - 1, axis=1)[:, :count]
        gaps = different[near].astype(np.float64) - block[:, None]
        mean[start : start + CHUNK] = (gaps**2).sum(axis=2).mean(axis=1)
    return np.asarray(((mean + FLOOR) ** -power)[place.reshape(-1)])


def of_matrix(matrix: np.ndarray) -> Distances:
    """Distances that are given, [N, N]."""
    return lambda positions: np.asarray(matrix[positions], dtype=np.float32)


def cosine_distances(vectors: np.ndarray) -> Distances:
    """1 - cosine of vectors [N, d] of any length, in float32; a row of zeros is at distance 1 from all.

    Memory: a copy of the vectors, while it is made one in float64; then m x N for each call. Raises ValueError for a
    row that is not finite.
    """
    check_finite(vectors)
    units = unit_rows(vectors).astype(np.float32)
    return lambda positions: np.asarray(np.maximum(1 - units[positions] @ units.T, 0))


def copies(vectors: np.ndarray) -> np.ndarray:
    """A number for every row that it shares with its exact copies alone, [N] int64. Memory: the vectors twice."""
    _, place = np.unique(np.asarray(vectors) + 0.0, axis=0, return_inverse=True)
    return np.asarray(place.reshape(-1), dtype=np.int64)


def novelsum(distances: Distances, density: np.ndarray, distance_power: float = 1.0, form: Form = "reference") -> float:
    """NovelSum of a set: the mean over its rows of their novelty in the set; 0 for a set of one row.

    A row's novelty is divided by the sum of 1/r^a over the ranks, as in the published code, also in the paper's form,
    which has the bare sum: a constant factor for sets of one size.

    Work n^2 log n; memory 256 x n float64, a few times over.

    Args:
        distances: of the set's rows among each other.
        density: of the set's rows in the pool (`densities`), [n].
        distance_power: a; 0: all ranks weigh the same.
    """
    n = len(density)
    if n < 2:
        return 0.0
    weights = _rank_weights(n if form == "reference" else n - 1, distance_power)
    total = 0.0
    for start in range(0, n, CHUNK):
        positions = np.arange(start, min(start + CHUNK, n))
        block = np.array(distances(positions), dtype=np.float64)
        rows = np.arange(len(block))
        if form == "reference":
            block[rows, positions] = 0.0
            terms = np.sort(block, axis=1) * density[positions, None]
        else:
            block[rows, positions] = np.inf
            order = np.argsort(block, axis=1, kind="stable")[:, :-1]
            terms = np.take_along_axis(block, order, axis=1) * density[order]
        total += float((terms @ weights).sum())
    return total / (n * float(weights.sum()))


def novelselect(
    distances: Distances,
    density: np.ndarray,
    k: int,
    first: int,
    distance_power: float = 1.0,
    form: Form = "paper",
    groups: np.ndarray | None = None,
) -> Novel:
    """k rows, each the one with the largest novelty in view of those before it: v(x) / their number.

    Exact: every row keeps its distances (reference: products) to the picks with their ranks, and a pick moves those
    behind it by one. Work N k^2 / 2 of these, about 1.3 ns each on one core, and k rows of distances; memory 6 N k
    bytes. So 7 s and 0.06 GB at N = 10,000 and k = 1,000, but two hours and 6 GB at N = 100,000 and k = 10,000. Of
    equally novel rows the first wins.

    Args:
        distances: of all rows. density: of every row in the pool (`densities`), [N].
        first: position of the first pick. distance_power: a.
        groups: [N] integers; rows that share one with a pick wait until no other row is left. None: no row waits.

    Raises ValueError unless 1 <= k <= N.
    """
    n = len(density)
    if not 1 <= k <= n:
        raise ValueError(f"k = {k} of {n} rows")
    groups = np.arange(n) if groups is None else groups
    ranked = _Ranked(density, k, distance_power, form)
    picks, values = np.full(k, first), np.full(k, np.nan)
    taken, waiting = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    for turn in range(k):
        if turn:
            free = ~taken & ~waiting
            free = free if free.any() else ~taken
            best = ranked.novelty[free].max()
            picks[turn] = np.flatnonzero(free & (ranked.novelty >= best * (1 - TIE)))[0]
            values[turn] = ranked.novelty[picks[turn]]
        pick = picks[turn]
        taken[pick] = True
        waiting |= groups == groups[pick]
        ranked.insert(turn, int(pick), distances(np.array([pick]))[0])
    return Novel(picks, values, ranked.novelty)


class _Ranked:
    """Every row's distances (reference: products) to the picks, the rank of each, and the novelty that they make."""

    def __init__(self, density: np.ndarray, k: int, distance_power: float, form: Form) -> None:
        n = len(density)
        self.novelty = np.zeros(n)
        self._density = density
        self._form = form
        self._weight_of_rank = np.concatenate([[0], _rank_weights(k, distance_power)]).astype(np.float32)
        self._divides = distance_power == 1  # to divide by a rank is faster than to look its weight up
        self._weight_of_pick = np.ones(k, dtype=np.float32)
        self._held = np.empty((n, k), dtype=np.float32)
        self._rank = np.empty((n, k), dtype=np.uint16 if k < 2**16 else np.uint32)

    def insert(self, turn: int, pick: int, distance: np.ndarray) -> None:
        """Take in the pick of turn number `turn` (from 0), at `distance` [N] from the rows."""
        if self._form == "paper":
            self._held[:, turn] = distance
            self._weight_of_pick[turn] = self._density[pick]
        else:
            self._held[:, turn] = (self._density + self._density[pick]) * distance
        size = turn + 1
        at_once = max(1, CELLS // size)
        for start in range(0, len(distance), at_once):
            rows = slice(start, start + at_once)
            held, rank = self._held[rows, :size], self._rank[rows, :size]
            behind = (held > held[:, -1:]).view(np.uint8)
            rank += behind
            rank[:, -1] = size - behind.sum(axis=1, dtype=rank.dtype)
            self.novelty[rows] = self._weighted(held, rank) @ self._weight_of_pick[:size] / size

    def _weighted(self, held: np.ndarray, rank: np.ndarray) -> np.ndarray:
        if self._divides:
            return np.asarray(held / rank.astype(np.float32))
        return np.asarray(held * np.take(self._weight_of_rank, rank))


def _rank_weights(n: int, power: float) -> np.ndarray:
    """1 / r ** power for the ranks 1 to n."""
    return np.asarray(np.arange(1, n + 1, dtype=np.float64) ** -power)
