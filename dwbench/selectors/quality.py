"""How good a row is by numbers that need no judge, for the methods that weigh quality against diversity."""

from typing import Literal

import numpy as np

from dwbench.selectors.context import Context
from dwbench.selectors.ifd import ifd
from dwbench.selectors.losses import response_losses
from dwbench.selectors.material import Need

Quality = Literal["low_loss", "high_loss", "ifd", "length"]
"""Higher is better:

- `low_loss`: minus the response's mean loss (end of turn included) under the scorer: the likelier, the better;
- `high_loss`: that loss itself: the harder, the better;
- `ifd`: IFD as `ifd` has it by default, the ratio of the losses with and without the prompt; 0 for rows above 1,
  which are misaligned;
- `length`: tokens of the response, of the model to be tuned.
"""


def quality_needs(quality: Quality) -> frozenset[Need]:
    """What a selector needs for it."""
    if quality == "length":
        return frozenset({"responses", "tokenizer"})
    return frozenset({"responses", "task", "scorer"})


def pool_quality(context: Context, quality: Quality) -> tuple[np.ndarray, tuple[str, ...]]:
    """Quality of every row, float64 [N], NaN where it has none, and the reason for that, else "".

    The losses are those stages that all loss selectors share.
    """
    if quality == "length":
        lengths = [len(context.chat.ids(row.response)) for row in context.pool]
        return np.array(lengths, dtype=np.float64), ("",) * context.n_rows
    losses = response_losses(context, "prompt")
    if quality in ("low_loss", "high_loss"):
        mean = losses.mean(score_eos=True)
        return (-mean if quality == "low_loss" else mean), losses.reasons()
    values = ifd(losses.mean(score_eos=True), response_losses(context, "header").mean(score_eos=True), "loss")
    undefined = np.isnan(values)
    reasons = tuple(
        reason or ("its loss without the prompt is 0" if bad else "")
        for reason, bad in zip(losses.reasons(), undefined, strict=True)
    )
    return np.where(values > 1, 0.0, values), reasons


def min_max(values: np.ndarray) -> np.ndarray:
    """Scaled to [0, 1] by the smallest and largest; all 0 where they are equal. [n], without NaN, n at least 1."""
    low, high = values.min(), values.max()
    return np.asarray((values - low) / (high - low) if high > low else np.zeros(len(values)))
