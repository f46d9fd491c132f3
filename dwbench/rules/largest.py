"""The largest numbers of each row. Its loop is compiled as this module is imported, on nobody's clock."""

import numba
import numpy as np

STRIDE = 16
"""Of so many columns one is looked at to tell how large the largest are."""

SPARE = 2
"""About so many times as many as are wanted reach the limit that this sample sets. Where they are twice as many as
that, or too few, the whole row is searched."""


def largest(block: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns (int) and values of the `width` largest numbers of each row of [M, N], in any order, [M, width] each.

    Of equal ones at the limit any may be taken. `block` is float32 or float64, in C order, without NaN. Memory: 8 x
    `SPARE` x `width` numbers for each row, and 8 bytes for each number where there are few columns.

    Raises ValueError unless 0 < width <= N.
    """
    n = block.shape[1]
    if not 0 < width <= n:
        raise ValueError(f"{width} of {n} columns")
    room, wanted = 2 * SPARE * width, -(-SPARE * width // STRIDE)
    if room > n // 2:
        return _of_all(block, width)
    least = _of_all(block[:, ::STRIDE], wanted)[1].min(axis=1)
    columns, values = np.zeros((len(block), room), dtype=np.int32), np.full((len(block), room), -np.inf, block.dtype)
    counts = np.empty(len(block), dtype=np.int64)
    _reaching(block, least, columns, values, counts)
    places, found = _of_all(values, width)
    columns = np.take_along_axis(columns, places, axis=1)
    whole = (counts < width) | (counts > room)
    columns[whole], found[whole] = _of_all(block[whole], width)
    return columns, found


def _of_all(block: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    columns = np.argpartition(block, block.shape[1] - width, axis=1)[:, block.shape[1] - width :]
    return columns, np.take_along_axis(block, columns, axis=1)


@numba.njit([f"void({t}[:, ::1], {t}[::1], int32[:, ::1], {t}[:, ::1], int64[::1])" for t in ("float32", "float64")])
def _reaching(
    block: np.ndarray, least: np.ndarray, columns: np.ndarray, values: np.ndarray, counts: np.ndarray
) -> None:
    """Writes where in each row of [M, N] the numbers from `least` [M] on are, and these, as far as there is room, [M,
    room] each; and how many there are, [M]."""
    for i in range(len(block)):
        row, limit, count = block[i], least[i], 0
        for column in range(len(row)):
            if row[column] >= limit:
                if count < columns.shape[1]:
                    columns[i, count], values[i, count] = column, row[column]
                count += 1
        counts[i] = count
