"""Repr Filter (DEITA): rows in a given order, but for those that are too close to one accepted before."""

from typing import NamedTuple

import numpy as np

from dwbench.rules.finite import check_finite

CHUNK = 256
"""Rows that are held against the accepted ones at a time."""

PRECISION = 1e-4
"""How close to the smallest threshold that is enough the search for it comes."""


class Filtered(NamedTuple):
    """`picks`: accepted positions in the order of the visits, [k] int64. `tau`: the threshold that let k pass."""

    picks: np.ndarray
    tau: float


def filtered(vectors: np.ndarray, order: np.ndarray, k: int, tau: float) -> Filtered:
    """The first k rows of `order` whose cosine with every row accepted before is at most `tau`, and the threshold used.

    Where fewer than k rows pass, the threshold comes from bisection between `tau` and 1, at which all pass. (More
    rows need not pass a larger one, so it is one at which k pass, and at some smaller one within `PRECISION` they
    don't; the published code returns fewer rows.)

    Work N k d for each threshold that is tried, 1 + 10 from 0.9 on; memory `CHUNK`^2 cosines and a copy of the k rows.

    Args:
        vectors: unit rows, [N, d].
        order: positions to visit, the first choice first; others are never accepted.
        k: how many rows.
        tau: highest cosine of two accepted rows, from -1 to 1.

    Raises ValueError unless 0 <= k <= the rows in `order` and -1 <= tau <= 1, and for a row that is not finite.
    """
    check_finite(vectors)
    if not 0 <= k <= len(order):
        raise ValueError(f"k = {k} of {len(order)} rows")
    if not -1 <= tau <= 1:
        raise ValueError(f"tau: must be from -1 to 1, not {tau}")
    found = accepted(vectors, order, k, tau)
    if len(found) == k:
        return Filtered(found, tau)
    low, best = tau, Filtered(np.asarray(order[:k], dtype=np.int64), 1.0)
    while best.tau - low > PRECISION:
        middle = (low + best.tau) / 2
        found = accepted(vectors, order, k, middle)
        if len(found) == k:
            best = Filtered(found, middle)
        else:
            low = middle
    return best


def accepted(vectors: np.ndarray, order: np.ndarray, most: int, tau: float) -> np.ndarray:
    """The first `most` rows of `order`, or all there are, whose cosine with every one accepted before is at most `tau`.

    Arguments as for `filtered`. Returns positions, int64.
    """
    picks = np.empty(most, dtype=np.int64)
    chosen = np.empty((most, vectors.shape[1]), dtype=vectors.dtype)
    count = 0
    for start in range(0, len(order), CHUNK):
        here = order[start : start + CHUNK]
        block = vectors[here]
        open_to = np.ones(len(here), dtype=np.bool_)
        for first in range(0, count, CHUNK):
            cosines = block[open_to] @ chosen[first : min(first + CHUNK, count)].T
            open_to[open_to] = _apart(cosines, tau).all(axis=1)
        among = _apart(block @ block.T, tau)
        for place in range(len(here)):
            if count == most:
                return picks
            if open_to[place]:
                picks[count], chosen[count] = here[place], block[place]
                count += 1
                open_to &= among[place]
    return picks[:count]


def _apart(cosines: np.ndarray, tau: float) -> np.ndarray:
    """Whether cosines are at most `tau`; those of copies are 1, which rounding may exceed."""
    return np.asarray(np.minimum(cosines, 1) <= tau)
