"""G2IS: a walk from row to similar row along each principal direction of the target gradients."""

from typing import NamedTuple

import numpy as np

TIE = 1e-5
"""Cosines that differ by less are equally good, and two rows conflict below minus this: features are good to it."""


class Directions(NamedTuple):
    """`components`: unit vectors, [q, d], the most important first. `weights`: their shares, [q], summing to 1."""

    components: np.ndarray
    weights: np.ndarray


def principal_directions(gradients: np.ndarray, variance: float, centred: bool) -> Directions:
    """As many principal directions of target gradients as it takes to hold more than `variance` of their squares.

    Not `centred`, a direction has the sign with which the mean gradient lies along it. Centred, as published, the mean
    gradient is no part of them, and the largest entry of each is positive (scikit-learn's rule from 1.5 on). None where
    the (centred) gradients are all 0.

    Args:
        gradients: [m, d].
        variance: above 0, below 1.
    """
    points = np.asarray(gradients, dtype=np.float64)
    mean = points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(points - mean if centred else points, full_matrices=False)
    if sizes[0] <= 8 * np.finfo(np.float64).eps * np.linalg.norm(points):  # what rounding leaves of a mean taken off
        return Directions(np.empty((0, points.shape[1])), np.empty(0))
    ratios = sizes**2 / (sizes**2).sum()
    q = min(int(np.searchsorted(np.cumsum(ratios), variance, side="right")) + 1, len(ratios))
    axes = axes[:q] * np.sign(np.take_along_axis(axes[:q], np.abs(axes[:q]).argmax(axis=1)[:, None], axis=1))
    if not centred:
        axes = np.where((axes @ mean < 0)[:, None], -axes, axes)
    return Directions(axes, ratios[:q] / ratios[:q].sum())


def shares(weights: np.ndarray, k: int) -> np.ndarray:
    """k rows shared out in proportion to `weights` ([q], summing to 1) by largest remainders: [q] int64, summing to k.

    Of equal remainders the first is rounded up.
    """
    exact = np.round(k * np.asarray(weights, dtype=np.float64), 9)  # 3 shares of 1/3 are whole
    counts = np.floor(exact).astype(np.int64)
    left = k - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
    return counts


class Walk(NamedTuple):
    """What `walk` takes.

    Attributes:
        picks: positions in the order of choice, direction after direction, [rows] int64; fewer than asked for where no
            row kept to the rules.
        fallbacks: steps at which no neighbour would do and the best of all rows was taken.
    """

    picks: np.ndarray
    fallbacks: int


def walk(
    rows: np.ndarray,
    components: np.ndarray,
    counts: np.ndarray,
    consistency: float,
    candidates: np.ndarray,
    neighbours: int | None = None,
) -> Walk:
    """Take `counts[j]` rows for every direction j, or as many as keep to the rules.

    A direction begins at the free row with the largest product with it. Then it goes on, each time, to the row most
    similar to the newest one, among those that conflict with none of its own rows so far (no negative cosine) and that
    leave the cosine of the rows' sum with the direction, by its size, at least `consistency` times what it was. Where
    no neighbour does, to the row furthest along the direction of all that do; where none does, the direction ends. A
    row is taken once in all directions together. Of equally good rows (within `TIE`) the first is taken.

    The same as a walk over a graph of all cosines, of which only the newest row's are worked out: each row that is
    taken costs one product of a matrix with a vector, N x d. Memory beside the rows: a few numbers for each.

    Args:
        rows: unit vectors, [N, d].
        components: unit vectors, [q, d].
        counts: rows wanted of each direction, [q].
        consistency: 0.8 is published.
        candidates: rows that may be taken, bool [N].
        neighbours: how many of its nearest candidates a row has as neighbours; None: all, and then there is nothing to
            fall back on.
    """
    free = candidates.copy()
    degree = len(rows) if neighbours is None else neighbours
    picks: list[int] = []
    fallbacks = 0
    for component, count in zip(components, counts, strict=True):
        if count == 0 or not free.any():
            continue
        along = rows @ component.astype(rows.dtype)
        path = _Path(rows, along, consistency, first_best(along, free))
        end = len(picks) + count
        while True:
            picks.append(path.newest)
            free[path.newest] = False
            if len(picks) == end:
                break
            fitting = free & path.fitting()
            near = fitting & nearest(path.cosines, path.newest, candidates, degree)
            if near.any():
                path.go_to(first_best(path.cosines, near))
            elif fitting.any():
                path.go_to(first_best(path.along, fitting))
                fallbacks += 1
            else:
                break
    return Walk(np.array(picks, dtype=np.int64), fallbacks)


class _Path:
    """The rows taken for one direction, S with the sum s: what is needed to test all rows at once for the next step."""

    def __init__(self, rows: np.ndarray, along: np.ndarray, consistency: float, anchor: int) -> None:
        self._rows = rows
        self._consistency = consistency
        self.along = along  # row . direction, of all rows
        self._peaceful = np.ones(len(rows), dtype=np.bool_)  # no conflict with any of S
        self._with_sum = np.zeros(len(rows))  # row . s
        self._sum_along = 0.0  # s . direction
        self._square = 0.0  # |s|^2
        self.go_to(anchor)

    def go_to(self, row: int) -> None:
        self._square += 2 * float(self._with_sum[row]) + 1.0
        self._sum_along += float(self.along[row])
        self.newest = row
        self.cosines = self._rows @ self._rows[row]
        self._peaceful &= self.cosines >= -TIE
        self._with_sum += self.cosines

    def fitting(self) -> np.ndarray:
        """Rows that conflict with none of S and keep its direction, bool [N]."""
        square = np.maximum(self._square + 2 * self._with_sum + 1.0, np.finfo(np.float64).tiny)
        then = np.abs(self._sum_along + self.along) / np.sqrt(square)
        now = abs(self._sum_along) / np.sqrt(self._square)
        return np.asarray(self._peaceful & (then >= self._consistency * now - TIE))


def first_best(values: np.ndarray, among: np.ndarray) -> int:
    """The first position of `among` (bool, some of them true) whose value is within `TIE` of the best."""
    open_to = np.where(among, values, -np.inf)
    return int(np.argmax(open_to >= open_to.max() - TIE))


def nearest(cosines: np.ndarray, row: int, candidates: np.ndarray, degree: int) -> np.ndarray:
    """The `degree` candidates with the highest of `cosines` [N] (those with `row`), itself left out: bool [N]."""
    others = candidates.copy()
    others[row] = False
    if others.sum() <= degree:
        return others
    open_to = np.where(others, cosines, -np.inf)
    return np.asarray(others & (open_to >= np.partition(open_to, -degree)[-degree]))
