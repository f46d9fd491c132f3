"""Novelty: distances weighted by their rank and by the density of the pool. NovelSum of a set; `novelselect` grows it.

Yang et al., ACL 2025, "Measuring Data Diversity for Instruction Tuning". With d the cosine distance, s the density of a
row in the pool and r(j) the rank of d(x, x_j) among the rows of the set:

- `paper`: v(x) = sum over the other rows x_j of s(x_j) d(x, x_j) / r(j)^a;
- `reference`, the published code. Its metric has s(x) in place of s(x_j), and lets the row itself take the first rank.
  Its selector has s(x) + s(x_j), and ranks by the products and not by the distances.
"""

from typing import Literal, Protocol

import numpy as np

from dwbench.rules.finite import check_finite
from dwbench.rules.matching import unit_rows

Form = Literal["paper", "reference"]

ALL = slice(None)


class Distances(Protocol):
    """Symmetric distances of N rows, none below 0: those of the rows at `positions` [m] to the rows at `columns`, a new
    array [m, columns] in float32. No matrix of all pairs is ever held."""

    def __call__(self, positions: np.ndarray, columns: np.ndarray | slice = ALL) -> np.ndarray: ...


FLOOR = 1e-9
"""Added to a mean squared distance, so that rows with copies have a density (the published code's)."""

CHUNK = 256
"""Rows whose distances to all rows are held at a time."""


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
    """Distances that are given, [N, N], symmetric."""

    def distances(positions: np.ndarray, columns: np.ndarray | slice = ALL) -> np.ndarray:
        return np.asarray(matrix[positions][:, columns], dtype=np.float32)

    return distances


def cosine_distances(vectors: np.ndarray) -> Distances:
    """1 - cosine of vectors [N, d] of any length, in float32; a row of zeros is at distance 1 from all.

    Memory: a copy of the vectors, while it is made one in float64; then m x columns at each call. Raises ValueError
    for a row that is not finite.
    """
    check_finite(vectors)
    units = unit_rows(vectors).astype(np.float32)

    def distances(positions: np.ndarray, columns: np.ndarray | slice = ALL) -> np.ndarray:
        return np.asarray(np.maximum(1 - units[positions] @ units[columns].T, 0))

    return distances


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
    weights = rank_weights(n if form == "reference" else n - 1, distance_power)
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


def rank_weights(n: int, power: float) -> np.ndarray:
    """1 / r ** power for the ranks 1 to n."""
    return np.asarray(np.arange(1, n + 1, dtype=np.float64) ** -power)
