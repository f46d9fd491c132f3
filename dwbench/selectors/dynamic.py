"""Dynamic gradient-based selection: LESS's score taken anew each time that the model was tuned on what it chose."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from dwbench.component import component
from dwbench.progress import Advance
from dwbench.representations.adam import Directions
from dwbench.representations.projection import Projector
from dwbench.rules.matching import Features, matches, unit_rows
from dwbench.rules.ranking import Scores, rank, scores
from dwbench.selectors import gradients
from dwbench.selectors.context import Context
from dwbench.selectors.material import Checkpoint, Need, Part

VERSION = 1


def less_scores(
    context: Context,
    checkpoint: Checkpoint,
    projector: Projector,
    directions: Directions,
    variant: gradients.Variant,
) -> Callable[[Sequence[int], Advance], np.ndarray]:
    """A function that gives rows of the pool, by position, their LESS scores at one checkpoint, float64 [rows]; NaN for
    a row without response token. It calls its second argument with the number of rows done.

    The target's gradients are stored, the rows' are not. What is drawn and read for `projector` and `directions` (those
    of the checkpoint) stays with them. Needs `responses`, `target`, `task`, `scorer` and `training`.
    """
    sought = gradients.sought(context, checkpoint, projector, variant)
    features = context.gradients(checkpoint).featuring(projector, directions)

    def score(positions: Sequence[int], advance: Advance) -> np.ndarray:
        found = features(gradients.training_pairs(context, positions), advance)
        return matches(Features(unit_rows(found), projector.name), sought)[:, 0]

    return score


@component
class Dynamic:
    """Dynamic gradient-based data selection (Knowledge-Based Systems 2025), as the ClusterUCB paper compares with.

    The scorer is tuned on a random share of the pool, as for LESS. Then, `rounds` times: every row gets LESS's score at
    the current checkpoint (the cosine of the step that Adam would take for its gradient alone with the target set's
    mean gradient, both projected), the k highest are taken, and from that checkpoint the scorer is tuned on them for
    one epoch. The choice is what the last round takes; nothing is tuned behind it. Higher is chosen first.

    The method's own run never ends a training: optimizer and learning rate's schedule go on over all rounds, the rows
    change under them, and the model that comes out is the result. Here a selection is made once and then tuned on from
    the start, as with every other method. So each round has a fresh optimizer and a schedule of its own, with warm-up
    and decay within the one epoch, and Adam's moments are those of that epoch. Its warm-up is 20 steps; here it is the
    one of LESS. Learning rate, batch and adapters are the run's own.

    `variant: reference` takes LESS's score as the code has it, from which the method's descends: Adam without
    correction of the bias and with epsilon inside of the root, and the mean of the cosines with all target rows.

    Charged: the warm-up, `rounds` passes forward and backward for every row, as many for the target set, and
    `rounds - 1` epochs on k rows. All but the first round depends on k, and no other budget shares it. An epoch on k
    rows must make a step behind the learning rate's warm-up; where k is too small for that, the run is refused.

    Attributes:
        rounds: how often rows are scored.
        warmup_share: share of the pool that the warm-up is on. epochs: of the warm-up.
        dim: dimensions of a feature.
        projection: `sketch` or `rademacher`, see `dwbench.representations.projection`.
    """

    rounds: int = 4
    warmup_share: float = 0.05
    epochs: int = 4
    dim: int = 8192
    projection: gradients.Kind = "sketch"
    variant: gradients.Variant = "paper"

    version: ClassVar[int] = 1
    paper: ClassVar[str] = "Knowledge-Based Systems 2025, S0950705125011852"
    cost_class: ClassVar[str] = "tuning on warmup_share of the rows, then rounds forward and backward passes"
    fixed_share: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        gradients.validate(self.warmup_share, self.epochs, self.dim)
        if self.rounds < 1:
            raise ValueError(f"rounds: must be at least 1, not {self.rounds}")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"responses", "target", "task", "scorer", "training", "seed"})

    def check(self, context: Context) -> None:
        """Raise UserError where the warm-up would do nothing, or no target row has a response token."""
        gradients.check(context, self.warmup_share, self.epochs)

    def choose(self, context: Context, k: int, allowed: np.ndarray) -> Scores:
        """Raises UserError, before anything is computed, where an epoch on k rows would do nothing."""
        if self.rounds > 1:
            context.check_tuning(k, epochs=1)
        known = gradients.trainable(context)
        projector = gradients.projector(context, self.dim, self.projection)
        checkpoint = gradients.warm_up(context, known, self.warmup_share, self.epochs)[-1]
        ties = context.draw("dynamic", "ties")

        def scored() -> Scores:
            values = self._scored(context, checkpoint, projector)
            return scores(values, values, gradients.reasons(known), np.where(allowed, 0, 1))

        found = scored()
        kept = 0
        for _ in range(self.rounds - 1):
            chosen = rank(found, k, ties).order[:k]
            usable = chosen[allowed[chosen] & ~np.isnan(found.values[chosen])]
            checkpoint = context.tune(usable.tolist(), 1, moments=True, start=checkpoint)[-1]
            found = scored()
            kept = len(np.intersect1d(chosen, rank(found, k, ties).order[:k]))
        notes: dict[str, float | int | str] = {
            "n_grads_computed": self.rounds * int(known.sum()),
            "warmup_rows": gradients.warmup_rows(known, self.warmup_share),
            "target_rows_without_response": len(context.target) - len(gradients.target_pairs(context)),
        }
        if self.rounds > 1:
            notes["rows_kept_from_the_round_before"] = kept
        return replace(found, notes=notes)

    def _scored(self, context: Context, checkpoint: Checkpoint, projector: Projector) -> np.ndarray:
        """LESS's scores of the pool at a checkpoint, [N]: stored block by block, without the gradients."""
        form = gradients.ADAM_FORMS[self.variant]
        directions = gradients.directions(checkpoint, form)

        def build(positions: range) -> dict[str, np.ndarray]:
            score = less_scores(context, checkpoint, projector, directions, self.variant)
            with context.track("gradients of the pool", len(positions)) as advance:
                return {"scores": score(positions, advance)}

        key = {**gradients.features_key(checkpoint, projector, form), "variant": self.variant}
        of: tuple[Part, ...] = ("responses", "target", "prompt", "scorer")
        return context.represent_rows("less_scores", VERSION, key, of, build)["scores"]
