"""G2IS: rows found on walks over a graph of gradients, along the principal directions of the target set's."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.errors import UserError
from dwbench.representations.adam import AdamForm
from dwbench.rules.matching import unit_rows
from dwbench.rules.ranking import Scores, scores
from dwbench.rules.walk import Directions, principal_directions, shares, walk
from dwbench.selectors import gradients
from dwbench.selectors.context import Context
from dwbench.selectors.material import Need

LAST = 2
"""Tier of rows that nothing can be learnt from."""


@component
class G2IS:
    """G2IS (Zhao et al., ACL 2025, "Beyond Similarity: A Gradient-based Graph Method for Instruction Tuning Data
    Selection").

    Rows and target set have LESS's features at the last checkpoint of its warm-up. The principal directions of the
    target gradients share the budget by the variance that each holds. For each, a walk begins at the row furthest along
    it and goes on to the nearest row that conflicts with none on the way and keeps the sum of their gradients along the
    direction (`dwbench.rules.walk`). The k rows come first in the order in which they were found.

    A walk may end before it has its share: that is the method, "better few than poor". Here exactly k rows are wanted,
    so the rest are those furthest along the weighted mean of the directions; how many is in the notes
    (`rows_filled`), and at budgets like 10 % they may be the most of them. That product is every row's score.

    `variant: reference` is what the published code does: the target gradients are centred, which takes away their mean
    and so what LESS goes by; a direction's sign is left to the linear algebra (here: its largest entry is positive), so
    that half of the walks may begin at the rows that lie against the target; and Adam's steps are those of LESS's code.
    By default (`fixed`) they are not centred, the mean gradient gives the sign, and Adam is the textbook's.

    The published code ships neither features nor graph. Here the warm-up is tuned with the run's own settings, and a
    row's neighbours are all others unless `neighbours` says how many; with all, its fallback to the whole pool never
    finds anything. Of copies all are walked through, one after the other.

    Charged: the warm-up, a pass forward and backward for every row of pool and target set, and the walk. The pool's
    features are in memory during the walk: N x dim x 4 bytes.

    Attributes:
        warmup_share: share of the pool that the warm-up is on. epochs: of the warm-up.
        dim: dimensions of a feature.
        projection: `sketch` or `rademacher`, see `dwbench.representations.projection`.
        variance: the directions hold more than this share of the target gradients' variance.
        consistency: share of its cosine with the direction that the walk must keep at each step.
        neighbours: nearest rows that a step may go to; None: all.
    """

    warmup_share: float = 0.05
    epochs: int = 4
    dim: int = 8192
    projection: gradients.Kind = "sketch"
    variance: float = 0.5
    consistency: float = 0.8
    neighbours: int | None = None
    variant: Literal["fixed", "reference"] = "fixed"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Zhao et al., ACL 2025, arXiv 2502.11062"
    cost_class: ClassVar[str] = "tuning on warmup_share of the rows, then a forward and backward pass; N x dim a choice"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        gradients.validate(self.warmup_share, self.epochs, self.dim)
        if not 0 < self.variance < 1:
            raise ValueError(f"variance: must be above 0 and below 1, not {self.variance}")
        if not 0 <= self.consistency <= 1:
            raise ValueError(f"consistency: must be at least 0 and at most 1, not {self.consistency}")
        if self.neighbours is not None and self.neighbours < 1:
            raise ValueError("neighbours: must be at least 1, or null for all")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "target", "task", "scorer", "training", "seed"})

    def check(self, context: Context) -> None:
        """Raise UserError where the warm-up would do nothing, or the target set has too few rows."""
        gradients.check(context, self.warmup_share, self.epochs)
        if self.variant == "reference" and len(gradients.target_pairs(context)) < 2:
            raise UserError(
                "selector.variant=reference: g2is centres the target set's gradients, which leaves nothing of a single "
                "one: give at least 2 target rows, or take variant=fixed"
            )

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        trainable = gradients.trainable(context)
        rows, directions = self._features(context, trainable)
        known = ~np.isnan(rows[:, 0])
        rows[~known] = 0
        components = directions.components.astype(np.float32)
        found = walk(
            rows, components, shares(directions.weights, k), self.consistency, allowed & known, self.neighbours
        )
        values = np.where(known, rows @ (directions.weights @ components), np.nan)
        preference, tier = values.copy(), np.where(allowed, 1, LAST)
        preference[found.picks] = np.arange(len(found.picks), 0, -1)
        tier[found.picks] = 0
        notes: dict[str, float | int | str] = {
            "warmup_rows": gradients.warmup_rows(trainable, self.warmup_share),
            "target_rows_without_response": len(context.target) - len(gradients.target_pairs(context)),
            "directions": len(components),
            "rows_filled": k - len(found.picks),
            "steps_without_neighbour": found.fallbacks,
        }
        return scores(values, preference, gradients.reasons(trainable), tier, notes)

    def _features(self, context: Context, trainable: np.ndarray) -> tuple[np.ndarray, Directions]:
        """Unit features of the pool, float32 [N, dim], NaN for a row without response token; and the directions.

        Raises UserError where the target gradients have no direction.
        """
        checkpoint = gradients.warm_up(context, trainable, self.warmup_share, self.epochs)[-1]
        projector = gradients.projector(context, self.dim, self.projection)
        target = gradients.target_features(context, checkpoint, projector)
        directions = principal_directions(target.rows, self.variance, centred=self.variant == "reference")
        if not len(directions.weights):
            raise UserError(
                f"selector.variant={self.variant}: the target set's gradients leave g2is no direction (all are 0, "
                "or with variant=reference all the same): give other target rows"
            )
        rows = np.empty((context.n_rows, self.dim), dtype=np.float32)
        form: AdamForm = "published" if self.variant == "reference" else "textbook"
        for positions, block in gradients.pool_features(context, checkpoint, projector, form):
            gradients.refuse_mixing(block, target)
            rows[positions.start : positions.stop] = unit_rows(block.rows)
        return rows, directions
