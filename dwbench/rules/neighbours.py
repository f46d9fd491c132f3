"""Exact nearest neighbours by cosine, a block of rows at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

TIE = 1e-5
"""Cosines that differ by less are equally good: embeddings themselves are good to this."""


class Neighbours(NamedTuple):
    """The nearest other row of each row (its position) and its cosine, both [N]."""

    row: np.ndarray
    cosine: np.ndarray


def cosines_with_others(embeddings: np.ndarray, chunk: int) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of at most `chunk` rows of the cosine matrix, each with its first row's position; a row with itself is
    -inf. `embeddings` are unit rows, [N, d]. Memory: chunk x N cosines."""
    for start in range(0, len(embeddings), chunk):
        block = embeddings[start : start + chunk] @ embeddings.T
        rows = np.arange(len(block))
        block[rows, start + rows] = -np.inf
        yield start, block


def nearest_other(embeddings: np.ndarray, chunk: int = 512) -> Neighbours:
    """The nearest neighbour of each row, itself excluded by its position, so that a copy of a row counts.

    Among equally good neighbours (within `TIE` of the best) the first is taken.

    Args:
        embeddings: unit rows, [N, d].
        chunk: rows compared with all others at a time; chunk x N cosines are held in memory.

    Raises ValueError for fewer than two rows.
    """
    n = len(embeddings)
    if n < 2:
        raise ValueError(f"{n} rows: a neighbour takes two")
    row, cosine = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.float64)
    for start, block in cosines_with_others(embeddings, chunk):
        here = slice(start, start + len(block))
        best = block.max(axis=1, keepdims=True)
        row[here] = (block >= best - TIE).argmax(axis=1)
        cosine[here] = np.take_along_axis(block, row[here, None], axis=1)[:, 0]
    return Neighbours(row, cosine)
