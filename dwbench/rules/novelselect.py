"""NovelSelect: each time the row with the largest novelty in view of those before it. The formula is in `novelty`.

At each turn the published code works out the novelty of every row anew: its distances to all rows chosen, sorted. Here
every row carries an upper bound of its novelty, which a pick moves in O(log k), and only rows whose bound reaches the
best novelty are worked out: a few in a hundred, more where densities are very uneven. The choice is the same.
"""

from typing import NamedTuple

import numpy as np

from dwbench.rules.novelty import Distances, Form, rank_weights

TIE = 1e-5
"""Novelties that differ by less, relative to the best, are equal: embeddings themselves are good to this."""

CELLS = 2**20
"""Distances to picks that are worked on at a time."""

AT_ONCE = 32
"""Rows whose novelty is worked out first: those with the largest bounds. Their best is what other bounds must reach."""


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

    Exact: of the rows within `TIE` of the largest novelty the first wins. Work k rows of distances, N k log k for the
    bounds, and of the N k^2 / 2 distances that the formula takes 3 % at N = 2,000 and 1.4 % at N = 10,000, k being a
    tenth and densities even; memory 32 N log2 k bytes (0.04 GB at N = 100,000), and a few times `CELLS` numbers. In
    single precision but for sums.

    Args:
        distances: of all rows. density: of every row in the pool (`densities`), [N], above 0.
        first: position of the first pick. distance_power: a, at least 0.
        groups: [N] integers; rows that share one with a pick wait until no other row is left. None: no row waits.

    Raises ValueError unless 1 <= k <= N.
    """
    n = len(density)
    if not 1 <= k <= n:
        raise ValueError(f"k = {k} of {n} rows")
    groups = np.arange(n) if groups is None else groups
    largest = float(np.max(density))  # novelty is linear in densities, and these may be too large for single precision
    terms = _Terms(distances, np.asarray(density / largest, dtype=np.float32), form)
    bounds = _Bounds(n, k, distance_power, form)
    picks, values = np.full(k, first), np.full(k, np.nan)
    taken, waiting = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    for turn in range(k):
        if turn:
            free = ~taken & ~waiting
            rows = np.flatnonzero(free if free.any() else ~taken)
            picks[turn], value = _most_novel(rows, picks[:turn], terms, bounds)
            values[turn] = value * largest / turn
        pick = picks[turn]
        taken[pick] = True
        waiting |= groups == groups[pick]
        bounds.insert(turn, *terms.of_all(int(pick)))
    return Novel(picks, values, _novelties(np.arange(n), picks, terms, bounds) * largest / k)


def _most_novel(rows: np.ndarray, picks: np.ndarray, terms: "_Terms", bounds: "_Bounds") -> tuple[int, float]:
    """The first of the most novel of `rows`, which ascend, and its novelty times the number of picks."""
    bound = bounds.at(len(picks))[rows]
    known = np.full(len(rows), -np.inf)
    here = np.argpartition(-bound, min(AT_ONCE, len(rows)) - 1)[:AT_ONCE]
    known[here] = _novelties(rows[here], picks, terms, bounds)
    # Twice TIE: ties of the best must be known too, and the bounds are in single precision.
    here = np.flatnonzero((bound >= known.max() * (1 - 2 * TIE)) & (known == -np.inf))
    known[here] = _novelties(rows[here], picks, terms, bounds)
    place = int((known >= known.max() * (1 - TIE)).argmax())
    return int(rows[place]), float(known[place])


def _novelties(rows: np.ndarray, picks: np.ndarray, terms: "_Terms", bounds: "_Bounds") -> np.ndarray:
    """Novelty of rows times the number of picks, [m] float64; their bounds begin anew from there."""
    found = np.empty(len(rows))
    step = max(1, CELLS // len(picks))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        keys, ranked = terms.ranked(part, picks)
        found[start : start + step] = ranked @ bounds.weight[1 : len(picks) + 1]
        bounds.renew(part, keys, ranked)
    return found


class _Terms(NamedTuple):
    """What is summed up, term / rank^a, and the keys that make the ranks: see `novelty`. In single precision."""

    distances: Distances
    density: np.ndarray
    form: Form

    def of_all(self, pick: int) -> tuple[np.ndarray, np.ndarray]:
        """Every row's key and term of one pick, [N] each."""
        keys = self.distances(np.array([pick]))[0]
        if self.form == "paper":
            return keys, keys * self.density[pick]
        keys = keys * (self.density + self.density[pick])
        return keys, keys

    def ranked(self, rows: np.ndarray, picks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keys of rows [m] and picks [s], each row's in ascending order, and the terms in that order; [m, s] each."""
        keys = self.distances(rows, picks)
        if self.form == "reference":
            keys = keys * (self.density[rows, None] + self.density[picks])
            keys.sort(axis=1)
            return keys, keys
        # Key and place in one number: of equal keys the earlier pick ranks first, as `insert` has it. Keys are >= 0.
        packed = (keys + 0.0).view(np.uint32).astype(np.uint64) << 32 | np.arange(len(picks), dtype=np.uint64)
        packed.sort(axis=1)
        keys = (packed >> 32).astype(np.uint32).view(np.float32)
        return keys, keys * self.density[picks][(packed & 0xFFFFFFFF).astype(np.intp)]


class _Bounds:
    """An upper bound of every row's sum of terms times the weights of their ranks, w(1) >= w(2) >= ...

    When a row was last worked out, its terms were put into groups of successive ranks. A pick since then falls into
    one of the groups by its key, which moves all groups behind by one. So for every group we know which ranks it fills
    now, and which terms are in it, but not their order. With m the mean of the old terms of a group that fills the
    ranks l to h, its sum is

        m (w(l) + ... + w(h))  +  sum over old terms of (term - m) w(rank)  +  sum over new terms of (term - m) w(rank).

    The old terms have kept their order. By Abel's summation their part is at most the largest of the partial sums of
    (term - m) in that order, if above 0, times w(l) - w(h). (Terms that ascend have none, which is Chebyshev's sum
    inequality.) The last part is at most w(l) times what is above m, less w(h) times what is below.
    """

    def __init__(self, n: int, k: int, power: float, form: Form) -> None:
        weight = np.concatenate([[0], rank_weights(k + 1, power)])
        self.weight = weight.astype(np.float32)
        """By rank; rank 0 weighs nothing."""
        self._up_to = np.cumsum(weight).astype(np.float32)
        self._first = 2 ** np.arange(k.bit_length())  # rank of each group: 1, 2 to 3, 4 to 7, ...
        self._leads = form == "paper"  # in the other form terms are keys, and ascend
        shape = (len(self._first), n)
        self._mean, self._lead = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
        self._above, self._below = np.zeros(shape), np.zeros(shape)  # in double precision: long sums
        self._least = np.full(shape, np.inf, dtype=np.float32)  # key of a group
        self._before = np.zeros(shape, dtype=np.int32)  # ranks before a group; of groups not there yet, all

    def at(self, size: int) -> np.ndarray:
        """The bounds in view of the first `size` picks, [N]."""
        bound = np.zeros(self._mean.shape[1])
        of_last, up_to_last = self.weight[size], self._up_to[size]
        for group in reversed(range(self._there(size))):
            before = self._before[group]
            of_first, up_to_before = self.weight[1:].take(before), self._up_to.take(before)
            bound += (up_to_last - up_to_before) * self._mean[group]
            if self._leads:
                bound += (of_first - of_last) * self._lead[group]
            bound += of_first * self._above[group] - of_last * self._below[group]
            of_last, up_to_last = self.weight.take(before), up_to_before
        return bound

    def insert(self, turn: int, keys: np.ndarray, terms: np.ndarray) -> None:
        """Take in the pick of turn number `turn` (from 0): every row's key and term of it, [N] each."""
        there = self._there(turn + 1)
        self._before[there:] = turn + 1
        behind = np.zeros(len(keys), dtype=np.bool_)  # rows whose groups behind this one took the pick
        for group in reversed(range(there)):
            reached = keys >= self._least[group] if group else np.ones_like(behind)
            self._before[group] += ~reached
            extra = (terms - self._mean[group]) * (reached & ~behind)
            self._above[group] += np.maximum(extra, 0)
            self._below[group] -= np.minimum(extra, 0)
            behind = reached

    def renew(self, rows: np.ndarray, keys: np.ndarray, terms: np.ndarray) -> None:
        """Begin anew for rows [m] with the keys and terms of all picks, [m, s], in ascending order of their keys."""
        size = keys.shape[1]
        there = self._there(size)
        first = self._first[:there] - 1
        sizes = np.diff(first, append=size)
        mean = np.add.reduceat(terms, first, axis=1) / sizes.astype(np.float32)
        self._mean[:there, rows], self._mean[there:, rows] = mean.T, 0
        if self._leads:
            ahead = np.cumsum(terms - np.repeat(mean, sizes, axis=1), axis=1, dtype=np.float64)
            self._lead[:there, rows] = np.maximum(np.maximum.reduceat(ahead, first, axis=1), 0).T
        self._least[:there, rows], self._least[there:, rows] = keys[:, first].T, np.inf
        self._before[:there, rows], self._before[there:, rows] = first[:, None], size
        self._above[:, rows] = self._below[:, rows] = 0

    def _there(self, size: int) -> int:
        """How many groups the ranks 1 to `size` make."""
        return int(np.searchsorted(self._first, size, side="right"))
