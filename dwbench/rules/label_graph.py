"""MIG's rule: rows that add most to the information in a graph of labels, chosen greedily.

Chen et al., Findings of ACL 2025, "MIG: Automatic Data Selection for Instruction Tuning by Maximizing Information Gain
in Semantic Space". Labels are joined where they mean almost the same; a row spreads its quality over its labels and
those joined with them; the information of a set is the sum over labels of phi(what its rows bring to the label).
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from dwbench.rules.matching import unit_rows

Gain = Literal["gradient", "exact"]

OFFSET = 1e-6
"""Added to a label's total within the power, so that the slope of an untouched label is finite (published code's)."""

TIE = 1e-9
"""Gains that differ by less, relative to the best, are equal: so much is rounding."""

CHUNK = 512
"""Labels compared with all others at a time."""


class Phi(NamedTuple):
    """What a label's total is worth: a concave function, and its derivative; both from arrays to arrays."""

    value: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]


def power_phi(exponent: float = 0.8) -> Phi:
    """(x + 1e-6) ** exponent."""
    return Phi(lambda x: (x + OFFSET) ** exponent, lambda x: exponent * (x + OFFSET) ** (exponent - 1))


def exponential_phi(alpha: float = 1.0) -> Phi:
    """1 - exp(-alpha x)."""
    return Phi(lambda x: -np.expm1(-alpha * x), lambda x: alpha * np.exp(-alpha * x))


class Coverage(NamedTuple):
    """What `most_informative` found.

    Attributes:
        picks: positions in the order in which they were chosen, [k] int64.
        gains: of each pick when it was chosen, [k] float64.
        totals: what the picks bring to each label, [labels] float64.
        left: gain of every row in view of all picks, [N] float64.
    """

    picks: np.ndarray
    gains: np.ndarray
    totals: np.ndarray
    left: np.ndarray


def label_edges(vectors: np.ndarray, threshold: float = 0.9, factor: float = 1.0) -> Any:
    """The graph of labels: sparse [labels, labels] float64.

    The cosine of two labels' vectors where that is at least `threshold`, times `factor`; 1 on the diagonal.

    Work labels^2 d; memory `CHUNK` x labels float64, the vectors in float64, and about 40 bytes for each edge. At a
    `threshold` that joins nearly all labels the edges themselves are labels x labels.

    Args:
        vectors: [labels, d], of any length.
    """
    from scipy import sparse

    units = unit_rows(vectors)
    n = len(units)
    starts, ends, weights = [np.arange(n)], [np.arange(n)], [np.ones(n)]
    for start in range(0, n, CHUNK):
        block = units[start : start + CHUNK] @ units.T
        block[np.arange(len(block)), start + np.arange(len(block))] = -np.inf
        one, other = np.nonzero(block >= threshold)
        starts.append(start + one)
        ends.append(other)
        weights.append(factor * block[one, other])
    places = (np.concatenate(starts), np.concatenate(ends))
    return sparse.csr_array((np.concatenate(weights), places), shape=(n, n))


def spread_labels(labels: Sequence[Sequence[int]], quality: np.ndarray, edges: Any, divide: bool = False) -> Any:
    """What every row brings to every label: sparse [N, labels] float64.

    A row gives its quality to each of its labels, and each label shares it out over the labels it is joined with, by
    `edges` divided by its column sums. So a row's sum is kept only where the joined labels have equal columns. Memory:
    12 bytes for each label that a row reaches, of N rows.

    Args:
        labels: of every row; one that occurs twice in a row counts once.
        quality: [N], none below 0.
        edges: [labels, labels], sparse, symmetric.
        divide: whether the quality is divided by the row's number of labels, so that many labels give no advantage.

    Raises ValueError for a quality that is negative or no number.
    """
    from scipy import sparse

    if not (np.asarray(quality) >= 0).all():
        raise ValueError("quality: must be at least 0 for every row")
    own = [sorted(set(row)) for row in labels]
    counts = np.array([len(row) for row in own], dtype=np.int64)
    each = np.repeat(quality / np.maximum(counts, 1) if divide else quality, counts)
    columns = np.array([label for row in own for label in row], dtype=np.int64)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    given = sparse.csr_array((np.asarray(each, dtype=np.float64), columns, bounds), shape=(len(own), edges.shape[0]))
    return given @ (edges @ sparse.diags_array(1 / edges.sum(axis=0)))


def most_informative(spread: Any, k: int, gain: Gain = "gradient", phi: Phi | None = None) -> Coverage:
    """k rows, each the one that adds most.

    With X the labels' totals of the rows chosen before and v what a row brings, its gain is `gradient`: v . phi'(X), as
    in the published code; or `exact`: the sum over labels of phi(X + v) - phi(X), greedy on which is within 1 - 1/e of
    the best set. At X = 0 the slope of the power is 12.7 whatever v, so that `gradient` goes to untouched
    labels first. Rows that bring nothing have gain 0. Of equal gains the first row wins.

    A pick changes the gain of the rows that share a label with it, and no others are worked out again: the result is
    that of working out all of them, at the cost of these rows' entries and a look at N gains. Nothing is dense: memory
    two more copies of `spread`, and the entries of the rows that a pick changes.

    Args:
        spread: [N, labels], sparse (`spread_labels`).
        phi: None: `power_phi()`.

    Raises ValueError unless 0 <= k <= N.
    """
    n, n_labels = spread.shape
    if not 0 <= k <= n:
        raise ValueError(f"k = {k} of {n} rows")
    phi = phi or power_phi()
    rows, columns = spread.tocsr(), spread.tocsc()
    totals = np.zeros(n_labels)
    gains = _gains(rows, totals, gain, phi)
    picks, found = np.empty(k, dtype=np.int64), np.empty(k)
    taken = np.zeros(n, dtype=np.bool_)
    for turn in range(k):
        best = gains[~taken].max()
        pick = np.flatnonzero(~taken & (gains >= best - TIE * best))[0]
        picks[turn], found[turn] = pick, gains[pick]
        taken[pick] = True
        labels, amounts = _entries(rows, pick)
        totals[labels] += amounts
        changed = np.zeros(n, dtype=np.bool_)
        for label in labels:
            changed[_entries(columns, label)[0]] = True
        again = np.flatnonzero(changed)
        gains[again] = _gains(rows[again], totals, gain, phi)
    return Coverage(picks, found, totals, gains)


def _gains(rows: Any, totals: np.ndarray, gain: Gain, phi: Phi) -> np.ndarray:
    """Gain of each of the rows, sparse [rows, labels], on top of the labels' totals."""
    if gain == "gradient":
        return np.asarray(rows @ phi.slope(totals))
    before = totals[rows.indices]
    worth = rows.copy()
    worth.data = phi.value(before + rows.data) - phi.value(before)
    return np.asarray(worth.sum(axis=1))


def _entries(compressed: Any, line: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and values of a row of a CSR array, or a column of a CSC one."""
    part = slice(compressed.indptr[line], compressed.indptr[line + 1])
    return compressed.indices[part], compressed.data[part]
