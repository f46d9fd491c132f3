"""How well gradients of a pool match those of a target set: the aggregation rules of LESS, and the subspace of GIST."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

RANK = 1e-6
"""Eigenvalues of a Gram matrix below this share of the largest are rounding of single-precision gradients."""


@dataclass(frozen=True)
class Features:
    """Projected gradients, [rows, dim], and the name of the projection that made them.

    Rows of two projections have nothing in common, though their shapes may be the same.
    """

    rows: np.ndarray
    projection: str


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float64 [n, d]. A row of zeros stays one; a NaN stays NaN."""
    wide = np.asarray(rows, dtype=np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.where(lengths == 0, 1.0, lengths))


def each_row(target: Features) -> Features:
    """What to match rows of the pool with where every target row counts by itself: the directions of all, [m, dim]."""
    return Features(unit_rows(target.rows), target.projection)


def mean_direction(target: Features, subtasks: np.ndarray) -> Features:
    """The same for a whole subtask, by the published code of LESS: the mean of its rows' directions, so that a match is
    the mean of the cosines; [subtasks, dim].

    `subtasks`: of each target row, [m] integers from 0.
    """
    return Features(_subtask_means(unit_rows(target.rows), subtasks), target.projection)


def direction_of_mean(target: Features, subtasks: np.ndarray) -> Features:
    """The same by the paper of LESS: the direction of the mean gradient, so that a match is the cosine with it;
    [subtasks, dim]. Target rows with larger gradients count more."""
    return Features(unit_rows(_subtask_means(target.rows, subtasks)), target.projection)


def matches(pool: Features, sought: Features) -> np.ndarray:
    """Inner product of every row of the pool (unit rows) with everything that is sought, float64 [n, sought].

    NaN for a row of NaN. Memory: both in float64, beside the result. Raises ValueError where the two were projected
    differently.
    """
    if pool.projection != sought.projection:
        raise ValueError(
            f"gradients of projection {pool.projection} can't be matched with those of {sought.projection}: "
            "project both by the same"
        )
    return np.asarray(np.asarray(pool.rows, dtype=np.float64) @ np.asarray(sought.rows, dtype=np.float64).T)


def checkpoint_weights(rates: Sequence[float]) -> np.ndarray:
    """Weight of every checkpoint: its mean learning rate, divided by their sum; [checkpoints].

    Raises ValueError for a negative rate, and where all are 0.
    """
    found = np.asarray(rates, dtype=np.float64)
    if (found < 0).any() or not found.sum() > 0:
        raise ValueError(f"rates: must not be negative nor all 0: {list(rates)}")
    return np.asarray(found / found.sum())


def _subtask_means(rows: np.ndarray, subtasks: np.ndarray) -> np.ndarray:
    wide = np.asarray(rows, dtype=np.float64)
    return np.stack([wide[subtasks == subtask].mean(axis=0) for subtask in range(int(subtasks.max()) + 1)])


class Subspace(NamedTuple):
    """An orthonormal basis of the directions in which target gradients G [m, P] are largest.

    Attributes:
        weights: the basis is G^T weights, [m, q]; so the coordinates of a gradient g are (g G^T) weights.
        target: coordinates of the target gradients themselves, [m, q].
    """

    weights: np.ndarray
    target: np.ndarray


def subspace(gram: np.ndarray, dim: int) -> Subspace:
    """The subspace of `dim` dimensions, at most the rank, that holds most of the target gradients (GIST).

    With the eigen-decomposition G G^T = U S^2 U^T (not centred) the basis is G^T U / S and the target's coordinates are
    U S: nothing of the gradients' own size is needed.

    Args:
        gram: G G^T, [m, m].
        dim: at least 1.

    Raises ValueError where all target gradients are 0.
    """
    values, vectors = np.linalg.eigh(np.asarray(gram, dtype=np.float64))
    largest = float(values[-1])
    if not largest > 0:
        raise ValueError("gram: all target gradients are 0, so they span nothing")
    q = min(dim, int((values > RANK * largest).sum()))
    sizes, axes = np.sqrt(values[::-1][:q]), vectors[:, ::-1][:, :q]
    return Subspace(axes / sizes, axes * sizes)
