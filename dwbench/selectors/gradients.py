"""Stored gradient features, shared by all selectors that compare gradients, and the warm-up tuning that they are taken
behind (spec of the gradient selectors, sections 1.2 and 1.3)."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from dwbench.component import identity
from dwbench.data.base import Example
from dwbench.errors import UserError
from dwbench.models.chat import Pair
from dwbench.representations.adam import Adam, AdamForm
from dwbench.representations.projection import Projection
from dwbench.rules.matching import unit_rows
from dwbench.selectors.context import Context
from dwbench.selectors.material import Checkpoint

VERSION = 1

Kind = Literal["sketch", "rademacher"]
"""How gradients are projected; see `Projection`."""


def training_pairs(context: Context, positions: Sequence[int] | None = None) -> list[Pair | None]:
    """The pool's rows, or those at `positions`, as the scorer is tuned on them; None for a row without response token.

    Needs `responses`, `task` and `scorer`.
    """
    rows = context.pool if positions is None else [context.pool[position] for position in positions]
    return [_pair(context, row) for row in rows]


def target_pairs(context: Context) -> list[Pair]:
    """The rows of the target set that have a response token, in the context's order.

    Raises UserError where there is none. Needs `target`, `task` and `scorer`.
    """
    pairs = [pair for row in context.target if (pair := _pair(context, row)) is not None]
    if not pairs:
        raise UserError(
            f"target set: none of its {len(context.target)} rows has a response token within the scoring model's "
            f"max_length={context.chat.max_length}, so there are no gradients to compare with: give a larger or "
            "another target set, or raise max_length"
        )
    return pairs


def _pair(context: Context, row: Example) -> Pair | None:
    pair = context.chat.pair(context.task, row)
    return None if pair is None or pair.response == (context.chat.end_of_turn,) else pair


def validate(warmup_share: float, epochs: int, dim: int = 1) -> None:
    """Raise ValueError for settings of a warm-up, or of a projection, that mean nothing."""
    if not 0 < warmup_share <= 1:
        raise ValueError(f"warmup_share: must be above 0 and at most 1, not {warmup_share}")
    if epochs < 1:
        raise ValueError(f"epochs: must be at least 1, not {epochs}")
    if dim < 1:
        raise ValueError(f"dim: must be at least 1, not {dim}")


def warmup_rows(context: Context, share: float) -> int:
    """How many rows the warm-up is on: `share` of the pool, at least 1."""
    return max(1, round(share * context.n_rows))


def check(context: Context, share: float, epochs: int) -> None:
    """Raise UserError, before anything is computed, for a warm-up that does nothing or a target set without gradients.

    Loads no weights. Needs what `warm_up` and `target_pairs` need.
    """
    context.check_tuning(warmup_rows(context, share), epochs)
    target_pairs(context)


def warm_up(context: Context, share: float, epochs: int) -> tuple[Checkpoint, ...]:
    """Tune the scorer on a random `share` of the pool, with the run's own settings: a checkpoint after every epoch,
    with Adam's moments. The same tuning for all methods that ask for the same share and epochs, stored and charged.

    Rows without response token are not drawn. Needs `responses`, `task`, `scorer`, `training` and `seed`.
    """
    trainable = np.array([pair is not None for pair in training_pairs(context)])
    drawn = np.where(trainable, context.draw("gradients", "warm-up"), np.inf)
    n = min(warmup_rows(context, share), int(trainable.sum()))
    return context.tune(np.argsort(drawn)[:n].tolist(), epochs, moments=True)


def projection(context: Context, dim: int, kind: Kind) -> Projection:
    """The run's projection: the same for pool and target, for all checkpoints and all methods. Needs `seed`."""
    return Projection(dim=dim, kind=kind, seed=context.derive("gradients", "projection"))


def features_key(checkpoint: Checkpoint, projection: Projection, form: AdamForm | None) -> dict[str, Any]:
    """What features depend on beside rows and scorer, for keys. `form` None: the plain gradient."""
    return {
        "version": VERSION,
        "checkpoint": checkpoint.ref,
        "projection": identity(projection),
        "form": form,
    }


def pool_features(
    context: Context, checkpoint: Checkpoint, projection: Projection, form: AdamForm | None
) -> Iterator[tuple[range, np.ndarray]]:
    """The pool's projected gradients at a checkpoint, block by block: positions and unit rows, float16 [rows, dim].

    With `form` each gradient is turned into the step that Adam would take next. A row without response token is NaN;
    one whose gradient is 0 stays 0. Stored; no more than a block is ever held. Needs `responses`, `task`, `scorer` and
    `training`.
    """
    adam = None if form is None else _adam(checkpoint, form)

    def build(positions: range) -> dict[str, np.ndarray]:
        pairs = training_pairs(context, positions)
        found = context.gradients(checkpoint).features(pairs, projection, adam, what="gradients of the pool")
        # Scaled to length 1 before the cast: a raw gradient is so small that half precision would make most of it 0.
        return {"features": unit_rows(found).astype(np.float16)}

    key = features_key(checkpoint, projection, form)
    blocks = context.represent_blocks("gradients", VERSION, key, ("responses", "prompt", "scorer"), build)
    for positions, arrays in blocks:
        yield positions, arrays["features"]


def target_features(context: Context, checkpoint: Checkpoint, projection: Projection) -> np.ndarray:
    """The plain projected gradients of `target_pairs` at a checkpoint, not scaled: float32 [pairs, dim]. Stored.

    Needs `target`, `task`, `scorer` and `training`.
    """

    def build() -> dict[str, np.ndarray]:
        pairs = target_pairs(context)
        found = context.gradients(checkpoint).features(pairs, projection, what="gradients of the target")
        unusable = int((~np.isfinite(found).all(axis=1)).sum())
        if unusable or not found.any():
            what = f"gradients of {unusable} of its rows are not finite" if unusable else "all of its gradients are 0"
            raise UserError(f"target set: {what}: compute in float32 (model.dtype), or give other rows")
        return {"features": found}

    key = features_key(checkpoint, projection, None)
    return context.represent("target_gradients", VERSION, key, ("target", "prompt", "scorer"), build)["features"]


def _adam(checkpoint: Checkpoint, form: AdamForm) -> Adam:
    if checkpoint.moments is None:
        raise ValueError(f"checkpoint {checkpoint.ref} was kept without Adam's moments")
    return Adam(moments=checkpoint.moments, step=checkpoint.step, form=form)
