"""How the scoring model does on the pool's responses, as it is or at points of a tuning on them: stored, and shared by
the methods that are made of it (EL2N, GraNd, CCS, STAFF, S2L)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dwbench.models.chat import Pair
from dwbench.representations.gradients import GradientPart
from dwbench.rules.ranking import Scores, scores
from dwbench.rules.strata import hardest
from dwbench.selectors import gradients
from dwbench.selectors.context import Context
from dwbench.selectors.material import Checkpoint, Need
from dwbench.selectors.uncertainty import correlation

ERRORS_VERSION = 1
NORMS_VERSION = 1

ADAPTERS: frozenset[GradientPart] = frozenset({"lora_all", "last_v_lora_b"})
"""Parts that an untuned model has only with a fresh adapter."""

Scored = Literal["base", "tuned"]
"""By which model: the scorer as it is, or tuned on the whole pool."""


@dataclass(frozen=True)
class ResponseErrors:
    """Means over each row's response, end of turn included; arrays [N], NaN for a row without response.

    Attributes:
        el2n: ||p - onehot(y)||, in [0, sqrt 2].
        margin: p_y minus the largest probability of another token, in [-1, 1].
        tokens: how many they are means of.
    """

    el2n: np.ndarray
    margin: np.ndarray
    tokens: np.ndarray


@dataclass(frozen=True)
class GradientNorms:
    """`norm`: of the gradient of each row's mean response loss, [N], NaN for a row without response. `tokens`: of the
    response, end of turn included, [N]."""

    norm: np.ndarray
    tokens: np.ndarray


def response_errors(context: Context, checkpoint: Checkpoint | None = None) -> ResponseErrors:
    """Errors of the scoring model, or of a checkpoint of it, on the pool's responses: one forward pass a row.

    Needs `responses`, `task` and `scorer`, with a checkpoint also `training`.
    """

    def build(positions: range) -> dict[str, np.ndarray]:
        pairs = gradients.training_pairs(context, positions)
        scorer = context.scorer_with(checkpoint) if checkpoint else context.scorer
        found = iter(scorer.response_errors([pair for pair in pairs if pair is not None]))
        means = np.full((2, len(pairs)), np.nan)
        for row, pair in enumerate(pairs):
            if pair is not None:
                errors = next(found)
                means[:, row] = errors.el2n.mean(), errors.margin.mean()
        return {"el2n": means[0], "margin": means[1], "tokens": _lengths(pairs)}

    arrays = context.represent_rows(
        "response_errors",
        ERRORS_VERSION,
        {"checkpoint": checkpoint.ref if checkpoint else None},
        ("responses", "prompt", "scorer"),
        build,
    )
    return ResponseErrors(**arrays)


def gradient_norms(context: Context, part: GradientPart, checkpoint: Checkpoint | None = None) -> GradientNorms:
    """Norms of each row's gradient with respect to `part` of the scoring model, or of a checkpoint of it.

    The parts of adapters need a checkpoint. Needs `responses`, `task` and `scorer`, with a checkpoint also `training`.
    """

    def build(positions: range) -> dict[str, np.ndarray]:
        pairs = gradients.training_pairs(context, positions)
        norm = context.gradients(checkpoint).norms(pairs, part, f"gradient norm ({part})")
        return {"norm": norm, "tokens": _lengths(pairs)}

    arrays = context.represent_rows(
        "gradient_norms",
        NORMS_VERSION,
        {"part": part, "checkpoint": checkpoint.ref if checkpoint else None},
        ("responses", "prompt", "scorer"),
        build,
    )
    return GradientNorms(**arrays)


def _lengths(pairs: Sequence[Pair | None]) -> np.ndarray:
    return np.array([0 if pair is None else len(pair.response) for pair in pairs])


def tuned_on_pool(context: Context, epochs: int, per_epoch: int = 1) -> tuple[Checkpoint, ...]:
    """Checkpoints of the scoring model tuned on all rows of the pool that have a response within its maximum length,
    `per_epoch` an epoch: stored, charged. Needs what `Context.tune` does."""
    return context.tune(np.flatnonzero(gradients.trainable(context)).tolist(), epochs, per_epoch=per_epoch)


def check_tuned_on_pool(context: Context, epochs: int) -> None:
    """Raise UserError where `tuned_on_pool` would do nothing. Loads no weights."""
    gradients.check_tuning(context, int(gradients.trainable(context).sum()), epochs)


def scored_by(context: Context, scorer: Scored, epochs: int) -> Checkpoint | None:
    """The checkpoint after `epochs` on the pool for `tuned`; None, the model as it is, for `base`."""
    return tuned_on_pool(context, epochs)[-1] if scorer == "tuned" else None


def grand(context: Context, part: GradientPart, scorer: Scored, epochs: int) -> GradientNorms:
    """Gradient norms by the scorer. Untuned, the parts of adapters are those of a fresh one (B = 0), whose A is drawn
    and gets no gradient."""
    checkpoint = scored_by(context, scorer, epochs)
    if checkpoint is None and part in ADAPTERS:
        checkpoint = context.untuned()
    return gradient_norms(context, part, checkpoint)


def needs_for(*, training: bool) -> frozenset[Need]:
    """What a method needs that looks at responses, and tunes the scorer or gives it an adapter where `training`."""
    needs: frozenset[Need] = frozenset({"responses", "task", "scorer"})
    return needs | {"training", "seed"} if training else needs


def check_epochs(epochs: int) -> None:
    if epochs < 1:
        raise ValueError(f"epochs: must be at least 1, not {epochs}")


def check_share(name: str, share: float) -> None:
    """A share of the rows to leave out must leave some."""
    if not 0 <= share < 1:
        raise ValueError(f"{name}: must be at least 0 and below 1, not {share}")


def hardest_first(values: np.ndarray, tokens: np.ndarray, offset: float) -> Scores:
    """Scores of which the highest come first, but for the share `offset` at the top, which comes last, the lowest of it
    first. Of equal values the first rows are skipped. `tokens` [N]: of the responses."""
    skipped = hardest(values, offset, np.arange(len(values)))
    notes: dict[str, float | int | str] = {"rows_skipped": int(skipped.sum())}
    valid = ~np.isnan(values)
    with_length = correlation(values[valid], tokens[valid], ranked=True)
    if not np.isnan(with_length):
        notes["spearman_with_length"] = with_length
    return scores(
        values,
        np.where(skipped, -values, values),
        no_response(tokens),
        tier=skipped.astype(np.int64),
        notes=notes,
    )


def no_response(tokens: np.ndarray) -> tuple[str, ...]:
    """Why a row has no score, where it has no response: [N]."""
    return gradients.reasons(tokens > 0)


def drawn(
    values: np.ndarray,
    chosen: np.ndarray,
    hardness: np.ndarray,
    cut: np.ndarray,
    allowed: np.ndarray,
    draw: np.ndarray,
    tokens: np.ndarray,
    notes: dict[str, float | int | str],
) -> Scores:
    """Scores of a choice from strata: first the `chosen` rows, then the others by `draw`, then those `cut` as too hard
    (the least hard first), then those that may not be chosen.

    Args:
        values: the score the strata are of, NaN: invalid. chosen, cut, allowed: bool. hardness, draw, tokens (of the
            responses): numbers; all [N].
    """
    preference = np.where(cut, -hardness, draw)
    tier = np.select([~allowed, cut, chosen], [3, 2, 0], 1)
    return scores(values, np.where(np.isnan(values), np.nan, preference), no_response(tokens), tier, notes)
