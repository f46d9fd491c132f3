"""The loops of facility location, compiled as this module is imported: about a second, and on nobody's clock.

They go through the similarities once, where NumPy would have to do so several times over: to take, limit, subtract and
add them up.
"""

import numba
import numpy as np


def _signatures(*vectors: str) -> list[str]:
    """Of a loop over rows of similarities and positions, for single and double precision; T is either."""
    return [f"void({t}[:, ::1], int64[::1], {', '.join(vectors).replace('T', t)})" for t in ("float32", "float64")]


@numba.njit(fastmath={"nnan", "nsz"})
def _rise(similarity: float, before: float, after: float) -> float:
    return min(max(similarity, before), after) - before


@numba.njit(_signatures("T[::1]", "T[::1]", "float64[::1]"), fastmath={"nnan", "nsz"})
def lost(rows: np.ndarray, served: np.ndarray, before: np.ndarray, after: np.ndarray, total: np.ndarray) -> None:
    """Adds to `total` [N] by how much the gain of each of N candidates falls as rows are covered better.

    Four rows at a time are added up in their own precision, and in the same way for every candidate, so that copies
    stay equal; all fours in double precision.

    Args:
        rows: similarities [M, N], none of them NaN. served: which of the M are covered better, [m]. before, after: how
            well these are covered, [m].
    """
    fours = len(served) - len(served) % 4
    for i in range(0, fours, 4):
        a, b, c, d = rows[served[i]], rows[served[i + 1]], rows[served[i + 2]], rows[served[i + 3]]
        for column in range(len(total)):
            one = _rise(a[column], before[i], after[i]) + _rise(b[column], before[i + 1], after[i + 1])
            other = _rise(c[column], before[i + 2], after[i + 2]) + _rise(d[column], before[i + 3], after[i + 3])
            total[column] += one + other
    for i in range(fours, len(served)):
        a = rows[served[i]]
        for column in range(len(total)):
            total[column] += _rise(a[column], before[i], after[i])


@numba.njit(_signatures("T[::1]", "float64[::1]"), fastmath={"nnan", "nsz", "reassoc"})
def gained(rows: np.ndarray, candidates: np.ndarray, covered: np.ndarray, gains: np.ndarray) -> None:
    """Writes to `gains` [m] by how much each candidate would cover the N rows better than they are `covered` [N], added
    up in double precision.

    Args:
        rows: similarities [M, N], none of them NaN. candidates: which of the M they are, [m].
    """
    for i in range(len(candidates)):
        row = rows[candidates[i]]
        gain = 0.0
        for column in range(len(covered)):
            gain += max(row[column] - covered[column], rows.dtype.type(0))
        gains[i] = gain
