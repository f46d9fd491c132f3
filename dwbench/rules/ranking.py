"""Ranking by score: direction, tiers, ties and what can't be scored."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Scores:
    """What a selector says of every row of the pool.

    Attributes:
        values: the published score, [N] float64, NaN where undefined.
        preference: what to rank by, highest first, [N] float64; NaN: invalid. For most methods plus or minus `values`.
        tier: rows of a lower tier come before those of a higher one whatever their preference, [N] int64.
        reasons: for an invalid row why, else "", [N].
        notes: what a reader of the result should know (counts of missing answers, ...), plain data.
    """

    values: np.ndarray
    preference: np.ndarray
    tier: np.ndarray
    reasons: tuple[str, ...]
    notes: dict[str, float | int | str]

    def __post_init__(self) -> None:
        sizes = {len(self.values), len(self.preference), len(self.tier), len(self.reasons)}
        if len(sizes) != 1:
            raise ValueError(f"scores of different lengths: {sorted(sizes)}")
        unexplained = np.isnan(self.preference) & np.array([not reason for reason in self.reasons], dtype=bool)
        if unexplained.any():
            raise ValueError(f"row {int(np.argmax(unexplained))} has no score and no reason for it")


def scores(
    values: np.ndarray,
    preference: np.ndarray,
    reasons: tuple[str, ...],
    tier: np.ndarray | None = None,
    notes: dict[str, float | int | str] | None = None,
) -> Scores:
    """Scores in one tier, unless others are given. A NaN without a reason gets `not a number`."""
    told = tuple(
        reason or ("not a number" if np.isnan(value) else "") for reason, value in zip(reasons, preference, strict=True)
    )
    one_tier = np.zeros(len(values), dtype=np.int64)
    return Scores(
        values=np.asarray(values, dtype=np.float64),
        preference=np.asarray(preference, dtype=np.float64),
        tier=one_tier if tier is None else tier,
        reasons=told,
        notes=notes or {},
    )


class Ranking(NamedTuple):
    """`order`: positions, first choice first, [N]. `ties_at_cut`: rows that share the score at the cut where the cut
    falls among them, else 0."""

    order: np.ndarray
    ties_at_cut: int


def rank(given: Scores, k: int, tie_break: np.ndarray) -> Ranking:
    """Order of all rows: tier, then preference from high to low, invalid rows last, ties by `tie_break` ([N] in [0,
    1)).

    Raises ValueError unless 0 <= k <= N.
    """
    n = len(given.values)
    if not 0 <= k <= n:
        raise ValueError(f"k = {k} of {n} rows")
    invalid = np.isnan(given.preference)
    preference = np.where(invalid, 0.0, given.preference)
    tier = np.where(invalid, np.iinfo(np.int64).max, given.tier)
    order = np.lexsort((tie_break, -preference, tier))
    return Ranking(order, _ties_at(order, tier, preference, k))


def places(given: Scores) -> np.ndarray:
    """Place of every row, 1 for the first choice, the mean of their places for tied ones, NaN for invalid rows; [N]."""
    invalid = np.isnan(given.preference)
    order = np.lexsort((-np.where(invalid, 0.0, given.preference), given.tier, invalid))
    place = np.empty(len(order))
    first = 0
    for position in range(1, len(order) + 1):
        here = order[first]
        if position < len(order):
            other = order[position]
            if given.tier[other] == given.tier[here] and given.preference[other] == given.preference[here]:
                continue
        place[order[first:position]] = (first + 1 + position) / 2
        first = position
    place[invalid] = np.nan
    return place


def _ties_at(order: np.ndarray, tier: np.ndarray, preference: np.ndarray, k: int) -> int:
    if k == 0 or k == len(order):
        return 0
    last, first_out = order[k - 1], order[k]
    if tier[last] != tier[first_out] or preference[last] != preference[first_out]:
        return 0
    return int(((tier == tier[last]) & (preference == preference[last])).sum())
