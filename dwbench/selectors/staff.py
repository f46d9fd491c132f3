"""STAFF: a small model's efforts make strata, the model to be tuned checks a few rows of each."""

from typing import ClassVar, Literal

import numpy as np

from dwbench.component import component, key_of
from dwbench.representations.per_sample import check_last_v
from dwbench.rules.clusters import lowest_of_each
from dwbench.rules.ranking import Scores
from dwbench.rules.strata import (
    effort_ratios,
    hardest,
    published_staff_counts,
    right_closed_strata,
    staff_counts,
)
from dwbench.selectors.context import Context
from dwbench.selectors.dynamics import (
    check_epochs,
    check_share,
    check_tuned_on_pool,
    drawn,
    gradient_norms,
    needs_for,
    tuned_on_pool,
)
from dwbench.selectors.gradients import training_pair
from dwbench.selectors.material import Need

VERSION = 1


@component
class STAFF:
    """Speculative coreset selection (Zhang et al., ICLR 2025, "Speculative Coreset Selection for Task-Specific
    Fine-tuning").

    Effort of a row for a model: the norm of the gradient of its mean response loss with respect to the value projection
    of the last layer. The small model is the scorer, tuned on the whole pool for `epochs`, which is charged. Its
    efforts, but for the highest tenth, are cut into 50 strata of equal width. The model to be tuned, untuned, computes
    its efforts for up to `verified` drawn rows of each stratum, so for 500 rows at most; V of a stratum is the ratio of
    both models' sums over these. Strata share the budget from the smallest to the largest:

    - `variant: paper`: floor(rows left x V / strata left), V divided by its mean over the strata; rows of a stratum are
      drawn. (The paper does not say how V, a ratio of two models' scales, is made to mean 1.)
    - `variant: reference`, the published code: floor(rows left x V / sum of V over the strata left), and the highest
      efforts of each stratum. Strata of `verified` rows or fewer are not checked and share evenly: on a pool of a few
      hundred rows these are most.

    What the shares leave over (rounding, and 1 - V of the rows left at the last stratum where its V is below 1) is
    drawn from the rows that were not cut; their number is in the notes.

    The published code also differs in what is not kept: it computes the target's efforts for the whole pool, and scales
    both models' from 0 to 1 by it, so that V explodes in the lowest strata; its effort is of the B of a new adapter
    behind a drawn, unseeded A, with dropout on; rounding can put the row with the highest effort in no stratum.

    It is meant for a small scorer of the family of the model to be tuned (`scorer_model=qwen2.5-0.5b-instruct
    model=qwen2.5-7b-instruct`). Where both are the same model the small one's part costs a tuning of the large one on
    all rows, so nothing is saved, and V says how the tuning changed the efforts.

    Attributes:
        epochs: of the small model's tuning.
        cut: share of the rows, with the highest efforts, that is cut.
        strata: how many.
        verified: rows of a stratum that the model to be tuned checks, at most.
    """

    epochs: int = 3
    cut: float = 0.1
    strata: int = 50
    verified: int = 10
    variant: Literal["paper", "reference"] = "paper"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Zhang et al., ICLR 2025, arXiv 2410.01296"
    cost_class: ClassVar[str] = "tuning the scorer on the row, 3 epochs, and 1 of its gradients; 500 of the model's"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        check_epochs(self.epochs)
        check_share("cut", self.cut)
        for name in ("strata", "verified"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, not {getattr(self, name)}")

    @property
    def needs(self) -> frozenset[Need]:
        return needs_for(training=True) | {"model"}

    def check(self, context: Context) -> None:
        """Raises UserError where tuning on the pool would do nothing, or a model has no value projection."""
        check_tuned_on_pool(context, self.epochs)
        check_last_v(context.model_config())
        check_last_v(context.model_config(of="model"))

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        small = gradient_norms(context, "last_v", tuned_on_pool(context, self.epochs)[-1])
        draw = context.draw("staff")
        effort = np.where(allowed, small.norm, np.nan)
        cut = hardest(effort, self.cut, draw)
        labels = right_closed_strata(np.where(cut, np.nan, effort), self.strata)
        sizes = np.bincount(labels[labels >= 0], minlength=self.strata)
        verified = self._verified(context, labels, sizes)
        ratios = effort_ratios(effort, self._target_effort(context, verified), labels, self.strata)
        if self.variant == "reference":
            counts, first = published_staff_counts(sizes, ratios, k), -effort
        else:
            counts, first = staff_counts(sizes, ratios, k), -draw
        chosen = lowest_of_each(np.where(labels >= 0, first, np.nan), labels, counts, draw)
        notes: dict[str, float | int | str] = {
            "strata_with_rows": int(np.count_nonzero(sizes)),
            "strata_verified": int(np.count_nonzero(~np.isnan(ratios))),
            "rows_verified": len(verified),
            "rows_cut": int(cut.sum()),
            "rows_filled": k - int(chosen.sum()),
        }
        return drawn(small.norm, chosen, small.norm, cut, allowed, draw, small.tokens, notes)

    def _verified(self, context: Context, labels: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Positions of the rows that the model to be tuned is to check, the same for all budgets."""
        counts = np.minimum(sizes, self.verified)
        if self.variant == "reference":
            counts = np.where(sizes > self.verified, counts, 0)
        draw = context.draw("staff", "verified")
        return np.flatnonzero(lowest_of_each(np.where(labels >= 0, draw, np.nan), labels, counts, draw))

    def _target_effort(self, context: Context, positions: np.ndarray) -> np.ndarray:
        """Effort of these rows for the model to be tuned, [N]; NaN elsewhere and for what does not fit into it."""
        uids = context.uids

        def build() -> dict[str, np.ndarray]:
            engine = context.gradients(of="model")
            pairs = [training_pair(engine.chat, context.task, context.pool[position]) for position in positions]
            return {"norm": engine.norms(pairs, "last_v", "gradient norm of the model (last_v)")}

        settings = {"part": "last_v", "rows": key_of([uids[position] for position in positions])}
        found = context.represent("model_gradient_norms", VERSION, settings, ("responses", "prompt", "model"), build)
        norm = np.full(context.n_rows, np.nan)
        norm[positions] = found["norm"]
        return norm
