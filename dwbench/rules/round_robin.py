"""Taking turns: each target row, or task, in its turn offers the row of the pool that it likes best."""

import numpy as np


def round_robin(scores: np.ndarray, k: int, retry: bool = False) -> np.ndarray:
    """The first k rows that are offered when the columns of `scores` take turns: positions in that order, int64.

    In its turn a column offers its next-best row. Where that row is taken already, the turn is lost (RDS+ as
    published), or with `retry` it offers the next one at once, so that all columns give the same number of rows. Of
    equal scores the first row goes first. Memory: three arrays of the size of `scores`.

    Args:
        scores: [N, columns], higher is better. A row with a NaN is never offered.
        k: rows in all.

    Returns:
        k different positions; all that can be offered where they are fewer.
    """
    offered = np.flatnonzero(~np.isnan(scores).any(axis=1))
    # Of the first k rows of one column at most k are taken, so that no column ever gets beyond them.
    lists = offered[np.argsort(-scores[offered], axis=0, kind="stable")[:k]]
    return _retried(lists, min(k, len(offered))) if retry else _first_offers(lists, k)


def _first_offers(lists: np.ndarray, k: int) -> np.ndarray:
    """The first k different entries of `lists` [rank, columns], read row by row."""
    rows, first = np.unique(lists, return_index=True)
    return np.asarray(rows[np.argsort(first)][:k], dtype=np.int64)


def _retried(lists: np.ndarray, k: int) -> np.ndarray:
    picks: dict[int, None] = {}
    queues = [iter(column) for column in lists.T.tolist()]
    for turn in range(k):
        picks[next(row for row in queues[turn % len(queues)] if row not in picks)] = None
    return np.array(list(picks), dtype=np.int64)
