"""Strata of a score, and how a budget is shared out over parts of a pool, from the smallest part to the largest."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

PUBLISHED_STRETCH = 1.0001
"""CCS's published upper end of the last stratum is so many times the largest score."""

TINY = 2
"""S2L takes from clusters of up to so many rows only when all others are exhausted."""

ROUNDING = 1e-9
"""A share that is below a whole number by no more than this is that number: so much is rounding."""


def whole(share: float, n: int) -> int:
    """floor(share x n), where a product like 0.29 x 100 = 28.999999999999996 is the whole number it stands for."""
    return math.floor(round(share * n, 9))


def hardest(hardness: np.ndarray, share: float, tie_break: np.ndarray) -> np.ndarray:
    """The hardest `whole(share, n)` of the n rows that have a hardness: bool [N].

    Args:
        hardness: [N], higher is harder; NaN: never taken and not counted.
        share: in [0, 1].
        tie_break: [N] numbers; of equally hard rows those with the smaller ones are taken.
    """
    taken = np.zeros(len(hardness), dtype=np.bool_)
    order = np.lexsort((tie_break, -hardness))  # NaN comes last
    taken[order[: whole(share, int(np.count_nonzero(~np.isnan(hardness))))]] = True
    return taken


def left_closed_strata(values: np.ndarray, strata: int) -> np.ndarray:
    """Equal-width strata between the least and the largest value, a value on an edge in the upper one: [N] int64.

    The last stratum holds the largest value. Equal values are all in one stratum. A NaN is in none (-1).

    Args:
        values: [N]. strata: how many, at least 1.
    """
    return _strata(values, strata, 1.0, side="right", clip=True)


def published_ccs_strata(values: np.ndarray, strata: int) -> np.ndarray:
    """The same as CCS's code cuts them: up to 1.0001 times the largest value, that end being open.

    A value that is then in no stratum gets -1: the largest where it is not positive, and every one where all are equal
    and not positive.
    """
    return _strata(values, strata, PUBLISHED_STRETCH, side="right", clip=False)


def right_closed_strata(values: np.ndarray, strata: int) -> np.ndarray:
    """Equal-width strata between the least and the largest value, a value on an edge in the lower one: [N] int64.

    As STAFF cuts them; in its code rounding can put the largest value beyond the last edge, in no stratum. A NaN is in
    none (-1).
    """
    return _strata(values, strata, 1.0, side="left", clip=True)


def _strata(values: np.ndarray, strata: int, stretch: float, side: Literal["left", "right"], clip: bool) -> np.ndarray:
    found = np.full(len(values), -1, dtype=np.int64)
    known = ~np.isnan(values)
    if not known.any():
        return found
    points = np.asarray(values[known], dtype=np.float64)
    low, high = float(points.min()), float(points.max()) * stretch
    if high < low:  # all below 0 and nearly equal: the stretch turned the range round
        return found
    edges = low + (high - low) / strata * np.arange(strata + 1)
    number = np.searchsorted(edges, points, side=side) - 1
    found[known] = np.clip(number, 0, strata - 1) if clip else np.where(number < strata, number, -1)
    return found


def water_fill(sizes: np.ndarray, k: int) -> np.ndarray:
    """Rows to take from every part, as equal as their sizes allow: [parts] int64.

    From the smallest part to the largest, of equal ones the first, each gives an equal share of what is left to take
    (rounded down), or all it has. They sum to k, or to all rows where there are fewer. Memory: a few numbers a part.

    Args:
        sizes: rows that each part has, [parts] integers. k: rows in all.
    """
    order = smallest_first(sizes)
    return _shared_out(sizes, k, order, lambda turn, rest: rest // (len(order) - turn))


def cluster_counts(sizes: np.ndarray, k: int) -> np.ndarray:
    """`water_fill` over the clusters of more than `TINY` rows (S2L): [clusters] int64.

    Where these have fewer than k rows, the others are to be drawn from the tiny clusters together.
    """
    return water_fill(np.where(np.asarray(sizes) > TINY, sizes, 0), k)


def effort_ratios(small: np.ndarray, target: np.ndarray, labels: np.ndarray, strata: int) -> np.ndarray:
    """STAFF's V of every stratum: summed effort for the target model / summed effort for the small one, over the rows
    on which it was checked: [strata]; NaN where there are none or the small model's efforts are all 0.

    Args:
        small, target: efforts [N]; NaN in `target`: not checked. labels: stratum of each row, [N]; -1: none.
    """
    known = ~np.isnan(small) & ~np.isnan(target) & (labels >= 0)
    of_small, of_target = (
        np.bincount(labels[known], weights=effort[known], minlength=strata) for effort in (small, target)
    )
    return np.asarray(np.divide(of_target, of_small, out=np.full(strata, np.nan), where=of_small > 0))


def staff_counts(sizes: np.ndarray, ratios: np.ndarray, k: int) -> np.ndarray:
    """Rows to take from every stratum by STAFF's paper: [strata] int64, in all at most k.

    From the smallest to the largest, each gives floor(rows left to take x V / strata left), or all it has. V is
    divided by its mean over the strata that have one, so that it stands for no model's scale; 1 for the others.

    Args:
        sizes: rows that each stratum has, [strata] integers. ratios: V, [strata], NaN: not known. k: rows in all.
    """
    order = smallest_first(sizes)
    known = ratios[order][~np.isnan(ratios[order])]
    weights = np.ones(len(ratios))
    if known.sum() > 0:
        weights = np.where(np.isnan(ratios), 1.0, ratios / known.mean())
    return _shared_out(sizes, k, order, lambda turn, rest: _floor(rest * weights[order[turn]] / (len(order) - turn)))


def published_staff_counts(sizes: np.ndarray, ratios: np.ndarray, k: int) -> np.ndarray:
    """The same by STAFF's code: floor(rows left to take x V / sum of V over the strata left), and where there is no V
    floor(rows left to take / strata left). Arguments as for `staff_counts`."""
    order = smallest_first(sizes)
    in_order = np.asarray(ratios, dtype=np.float64)[order]
    still = np.cumsum(np.nan_to_num(in_order)[::-1])[::-1]

    def share(turn: int, rest: int) -> int:
        if np.isnan(in_order[turn]) or still[turn] == 0:
            return rest // (len(order) - turn)
        return _floor(rest * in_order[turn] / still[turn])

    return _shared_out(sizes, k, order, share)


def smallest_first(sizes: np.ndarray) -> np.ndarray:
    """Numbers of the parts that have rows, the smallest first, of equal ones the first: int64."""
    sizes = np.asarray(sizes)
    filled = np.flatnonzero(sizes)
    return np.asarray(filled[np.argsort(sizes[filled], kind="stable")])


def _shared_out(sizes: np.ndarray, k: int, order: np.ndarray, share: Callable[[int, int], int]) -> np.ndarray:
    """What each part gives when they are asked in this order for `share(turn, rows left to take)`."""
    counts = np.zeros(len(sizes), dtype=np.int64)
    rest = k
    for turn, part in enumerate(order):
        counts[part] = min(int(sizes[part]), share(turn, rest), rest)
        rest -= int(counts[part])
    return counts


def _floor(share: float) -> int:
    return math.floor(share + ROUNDING)
