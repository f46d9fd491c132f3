"""Stored gradient features, shared by all selectors that compare gradients, and the warm-up tuning that they are taken
behind (spec of the gradient selectors, sections 1.2 and 1.3).

A pool is gone through block by block and tokenised as it goes: neither its gradients nor its token ids are ever held
together, however large it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from dwbench.component import identity
from dwbench.data.base import Example, Task
from dwbench.errors import UserError
from dwbench.models.chat import Chat, Pair
from dwbench.representations.adam import Adam, AdamForm, Directions
from dwbench.representations.projection import Projection, Projector
from dwbench.rules.matching import Features, direction_of_mean, each_row, mean_direction, unit_rows
from dwbench.rules.strata import whole
from dwbench.selectors.context import Context
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.material import Checkpoint

VERSION = 2

Kind = Literal["sketch", "rademacher"]
"""How gradients are projected; see `Projection`."""

Variant = Literal["paper", "reference"]

ADAM_FORMS: dict[Variant, AdamForm] = {"paper": "textbook", "reference": "published"}


def training_pair(chat: Chat, task: Task, row: Example) -> Pair | None:
    """The row as the model of `chat` is tuned on it; None without a response token of its own."""
    pair = chat.pair(task, row)
    return None if pair is None or pair.response == (chat.end_of_turn,) else pair


def training_pairs(context: Context, positions: Sequence[int]) -> list[Pair | None]:
    """The pool's rows at `positions` as the scorer is tuned on them; None for a row without response token.

    Needs `responses`, `task` and `scorer`.
    """
    return [training_pair(context.chat, context.task, context.pool[position]) for position in positions]


def trainable(context: Context) -> np.ndarray:
    """Whether each row of the pool has a response token for the scorer to be tuned on: bool [N].

    Needs `responses`, `task` and `scorer`.
    """
    chat, task = context.chat, context.task
    return np.array([training_pair(chat, task, row) is not None for row in context.pool], dtype=np.bool_)


def reasons(known: np.ndarray) -> tuple[str, ...]:
    """Why a row has no gradient, where it has no response token (`trainable`): [N]."""
    return tuple("" if one else NO_RESPONSE for one in known)


def target_pairs(context: Context) -> list[Pair]:
    """The rows of the target set that have a response token, in the context's order.

    Raises UserError where there is none. Needs `target`, `task` and `scorer`.
    """
    chat, task = context.chat, context.task
    pairs = [pair for row in context.target if (pair := training_pair(chat, task, row)) is not None]
    if not pairs:
        raise UserError(
            f"target set: none of its {len(context.target)} rows has a response token within the scoring model's "
            f"max_length={context.chat.max_length}, so there are no gradients to compare with: give a larger or "
            "another target set, or raise max_length"
        )
    return pairs


def validate(warmup_share: float, epochs: int, dim: int = 1) -> None:
    """Raise ValueError for settings of a warm-up, or of a projection, that mean nothing."""
    if not 0 < warmup_share <= 1:
        raise ValueError(f"warmup_share: must be above 0 and at most 1, not {warmup_share}")
    if epochs < 1:
        raise ValueError(f"epochs: must be at least 1, not {epochs}")
    if dim < 1:
        raise ValueError(f"dim: must be at least 1, not {dim}")


def warmup_rows(known: np.ndarray, share: float) -> int:
    """How many rows the warm-up is on: `share` of the pool, at least 1, as far as it has `trainable` ones."""
    return min(max(1, whole(share, len(known))), int(known.sum()))


def check(context: Context, share: float, epochs: int) -> None:
    """Raise UserError, before anything is computed, for a warm-up that does nothing or a target set without gradients.

    Loads no weights. Needs what `warm_up` and `target_pairs` need.
    """
    check_tuning(context, warmup_rows(trainable(context), share), epochs)
    target_pairs(context)


def check_tuning(context: Context, rows: int, epochs: int) -> None:
    """Raise UserError where tuning the scorer on so many rows would do nothing. Needs `training` and `scorer`."""
    if not rows:
        raise UserError(
            f"pool: no row has a response token within the scoring model's max_length={context.chat.max_length}, so "
            "there is nothing to tune it on: raise max_length"
        )
    context.check_tuning(rows, epochs)


def warm_up(context: Context, known: np.ndarray, share: float, epochs: int) -> tuple[Checkpoint, ...]:
    """Tune the scorer on a random `share` of the pool, with the run's own settings: a checkpoint after every epoch,
    with Adam's moments. The same tuning for all methods that ask for the same share and epochs, stored and charged.

    Rows that are not `known` to be `trainable` are not drawn. Needs `responses`, `task`, `scorer`, `training` and
    `seed`.
    """
    drawn = np.where(known, context.draw("gradients", "warm-up"), np.inf)
    return context.tune(np.argsort(drawn)[: warmup_rows(known, share)].tolist(), epochs, moments=True)


def projector(context: Context, dim: int, kind: Kind) -> Projector:
    """The run's projection: the same for pool and target, for all checkpoints and all methods. Needs `seed`."""
    return Projector(Projection(dim=dim, kind=kind, seed=context.derive("gradients", "projection")))


def directions(checkpoint: Checkpoint, form: AdamForm) -> Directions:
    """The steps that Adam would take next at a checkpoint. Raises ValueError where it was kept without moments."""
    if checkpoint.moments is None:
        raise ValueError(f"checkpoint {checkpoint.ref} was kept without Adam's moments")
    return Directions(Adam(moments=checkpoint.moments, step=checkpoint.step, form=form))


def features_key(checkpoint: Checkpoint, by: Projector, form: AdamForm | None) -> dict[str, Any]:
    """What features depend on beside rows and scorer, for keys. `form` None: the plain gradient."""
    return {
        "version": VERSION,
        "checkpoint": checkpoint.ref,
        "projection": identity(by.projection),
        "form": form,
    }


def pool_features(
    context: Context, checkpoint: Checkpoint, by: Projector, form: AdamForm | None
) -> Iterator[tuple[range, Features]]:
    """The pool's projected gradients at a checkpoint, block by block: positions and unit rows, float16 [rows, dim].

    With `form` each gradient is turned into the step that Adam would take next. A row without response token is NaN;
    one whose gradient is 0 stays 0. Stored, and with them which projection made them; no more than a block is ever
    held. Needs `responses`, `task`, `scorer` and `training`.
    """
    steps = None if form is None else directions(checkpoint, form)

    def build(positions: range) -> dict[str, np.ndarray]:
        pairs = training_pairs(context, positions)
        found = context.gradients(checkpoint).features(pairs, by, steps, what="gradients of the pool")
        # Scaled to length 1 before the cast: a raw gradient is so small that half precision would make most of it 0.
        return _named(unit_rows(found).astype(np.float16), by)

    key = features_key(checkpoint, by, form)
    blocks = context.represent_blocks("gradients", VERSION, key, ("responses", "prompt", "scorer"), build)
    for positions, arrays in blocks:
        yield positions, _features(arrays)


def target_features(context: Context, checkpoint: Checkpoint, by: Projector) -> Features:
    """The plain projected gradients of `target_pairs` at a checkpoint, not scaled: float32 [pairs, dim]. Stored.

    Needs `target`, `task`, `scorer` and `training`.
    """

    def build() -> dict[str, np.ndarray]:
        pairs = target_pairs(context)
        found = context.gradients(checkpoint).features(pairs, by, what="gradients of the target")
        check_target(found)
        return _named(found, by)

    key = features_key(checkpoint, by, None)
    return _features(context.represent("target_gradients", VERSION, key, ("target", "prompt", "scorer"), build))


def check_target(found: np.ndarray) -> None:
    """Raise UserError where gradients of the target set, or products of them, [rows, any], can't be sought for."""
    unusable = int((~np.isfinite(found).all(axis=1)).sum())
    if unusable or not found.any():
        what = f"gradients of {unusable} of its rows are not finite" if unusable else "all of its gradients are 0"
        raise UserError(f"target set: {what}: compute in float32 (model.dtype), or give other rows")


def sought(
    context: Context, checkpoint: Checkpoint, by: Projector, what: Literal["rows", "paper", "reference"]
) -> Features:
    """What LESS matches rows of the pool with: each target row (`rows`), or the target set as one subtask, as the paper
    or the reference takes it; [sought, dim]. Needs what `target_features` needs."""
    target = target_features(context, checkpoint, by)
    if what == "rows":
        return each_row(target)
    one_subtask = np.zeros(len(target.rows), dtype=np.int64)
    return (direction_of_mean if what == "paper" else mean_direction)(target, one_subtask)


def refuse_mixing(one: Features, other: Features) -> None:
    """Raise ValueError where two projections made them: their rows have nothing in common."""
    if one.projection != other.projection:
        raise ValueError(f"gradients of projection {one.projection} can't be put beside those of {other.projection}")


def _named(rows: np.ndarray, by: Projector) -> dict[str, np.ndarray]:
    """The arrays that features are stored as, beside each other with the projection that made them."""
    return {"features": rows, "projection": np.array(by.name)}


def _features(arrays: Mapping[str, np.ndarray]) -> Features:
    return Features(arrays["features"], str(arrays["projection"]))
