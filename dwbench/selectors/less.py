"""LESS: rows whose gradients, as Adam would step along them, point where the target set's do."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component
from dwbench.representations.adam import AdamForm
from dwbench.representations.projection import Projector
from dwbench.rules.matching import checkpoint_weights, matches
from dwbench.rules.ranking import Scores, scores
from dwbench.rules.round_robin import round_robin
from dwbench.selectors import gradients
from dwbench.selectors.context import Context
from dwbench.selectors.material import Checkpoint, Need


@component
class LESS:
    """LESS (Xia et al., ICML 2024, "LESS: Selecting Influential Data for Targeted Instruction Tuning").

    The scorer is tuned on a random share of the pool. At each epoch's checkpoint c a row's feature phi_c is the step
    that Adam would take for its gradient alone, projected and of length 1; a target row's psi_c is its plain gradient,
    projected the same. Score: sum_c w_c cos(phi_c, mean of psi_c over the target set), the weights w_c being the mean
    learning rates of the epochs over their sum. Higher is chosen first. The whole target set is one subtask.

    `rule: round_robin` lets the target rows take turns instead, each with the row of the pool that has the highest
    sum_c w_c cos(phi_c, psi_c) with it and is not taken yet (arXiv 2602.14696). The score is then the highest of these
    sums; all budgets are beginnings of one order.

    The reference's code differs (`variant: reference` gives its behaviour): no bias correction of the moments and
    epsilon inside of the root, which with LoRA's small moments leaves next to nothing of Adam's scaling; the mean of
    the cosines with all target rows in place of the cosine with their mean; and by turns a row that is taken already
    costs the turn, as in the code of RDS+. Not kept: gradients cast to half precision before they are projected, where
    small ones vanish. Its warm-up is LoRA with r 128 on q, k, v and o, at a learning rate of 2e-5, linear, batch 128;
    here it is tuned with the run's own settings. And here the projection is a sketch unless `projection: rademacher`.

    Charged: the warm-up, and at each of its checkpoints a pass forward and backward for every row of pool and target
    set. With 4 epochs that is about 1.4 times the cost of tuning on the whole pool for 3 epochs.

    Attributes:
        warmup_share: share of the pool that the warm-up is on.
        epochs: of the warm-up; each leaves a checkpoint.
        dim: dimensions of a feature.
        projection: `sketch` or `rademacher`, see `dwbench.representations.projection`.
        gradient: of the pool's rows: `adam`, or `sgd`, the plain one (for ablation).
        rule: `top_k` or `round_robin`.
    """

    warmup_share: float = 0.05
    epochs: int = 4
    dim: int = 8192
    projection: gradients.Kind = "sketch"
    gradient: Literal["adam", "sgd"] = "adam"
    rule: Literal["top_k", "round_robin"] = "top_k"
    variant: gradients.Variant = "paper"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Xia et al., ICML 2024, arXiv 2402.04333"
    cost_class: ClassVar[str] = "tuning on warmup_share of the rows, then a forward and backward pass for each epoch"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        gradients.validate(self.warmup_share, self.epochs, self.dim)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "target", "task", "scorer", "training", "seed"})

    def check(self, context: Context) -> None:
        """Raise UserError where the warm-up would do nothing, or no target row has a response token."""
        gradients.check(context, self.warmup_share, self.epochs)

    def score(self, context: Context) -> Scores:
        known = gradients.trainable(context)
        found = self._matches(context, known)
        values = found.max(axis=1)
        notes: dict[str, float | int | str] = {
            "warmup_rows": gradients.warmup_rows(known, self.warmup_share),
            "target_rows_without_response": len(context.target) - len(gradients.target_pairs(context)),
        }
        preference = values
        if self.rule == "round_robin":
            order = round_robin(found, context.n_rows, retry=self.variant == "paper")
            preference = np.full(context.n_rows, np.nan)
            preference[order] = np.arange(len(order), 0, -1)
        return scores(values, preference, gradients.reasons(known), notes=notes)

    def _matches(self, context: Context, known: np.ndarray) -> np.ndarray:
        """How well each row matches what is sought: the target set, [N, 1], or each of its rows, [N, m]."""
        checkpoints = gradients.warm_up(context, known, self.warmup_share, self.epochs)
        weights = checkpoint_weights([checkpoint.rate for checkpoint in checkpoints])
        projector = gradients.projector(context, self.dim, self.projection)
        form = gradients.ADAM_FORMS[self.variant] if self.gradient == "adam" else None
        sought = "rows" if self.rule == "round_robin" else self.variant
        parts = [
            weight * checkpoint_matches(context, checkpoint, projector, form, sought)
            for weight, checkpoint in zip(weights, checkpoints, strict=True)
        ]
        return np.asarray(np.sum(parts, axis=0))


def checkpoint_matches(
    context: Context,
    checkpoint: Checkpoint,
    projector: Projector,
    form: AdamForm | None,
    sought: Literal["rows", "paper", "reference"],
) -> np.ndarray:
    """Cosines of the pool's gradients at a checkpoint with each target row (`rows`) or with the target set as one, by
    the paper or the reference; [N, sought]. Block by block: the pool's features are never held together.

    Needs `responses`, `target`, `task`, `scorer` and `training`.
    """
    queries = gradients.sought(context, checkpoint, projector, sought)
    blocks = gradients.pool_features(context, checkpoint, projector, form)
    return np.concatenate([matches(features, queries) for _, features in blocks])
