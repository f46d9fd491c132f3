"""Stored response losses, shared by all selectors that are made of them (spec of the loss selectors, section 0).

Both arms score the same response ids: those that fit behind the row's own prompt within the model's `max_length`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dwbench.models.chat import Pair
from dwbench.selectors.base import Context

VERSION = 1

Arm = Literal["prompt", "header", "bos"]
"""What stands in front of the response: the row's prompt, the bare header of an answer, or one BOS token."""

NO_RESPONSE = "no response token fits behind the prompt within max_length"


@dataclass(frozen=True)
class Losses:
    """Response losses of a pool, in nats; arrays [N].

    Attributes:
        total: summed over the response's own tokens; NaN where none is left.
        tokens: how many these are.
        end: of the end-of-turn token; NaN where truncation took it.
    """

    total: np.ndarray
    tokens: np.ndarray
    end: np.ndarray

    def mean(self, score_eos: bool) -> np.ndarray:
        """Mean loss a token, NaN for a row without any response token."""
        with_end = score_eos & ~np.isnan(self.end)
        total = self.total + np.where(with_end, np.nan_to_num(self.end), 0.0)
        tokens = self.tokens + with_end
        return np.where(self.tokens > 0, total / np.maximum(tokens, 1), np.nan)

    def reasons(self) -> tuple[str, ...]:
        return tuple("" if n > 0 else NO_RESPONSE for n in self.tokens)


def response_losses(context: Context, arm: Arm) -> Losses:
    """The losses of the pool's responses behind `arm`. Needs `responses`, `task` and `scorer`."""
    arrays = context.represent(
        "response_nll", VERSION, {"arm": arm}, ("pool", "responses", "task", "scorer"), lambda: _compute(context, arm)
    )
    return Losses(**arrays)


def _compute(context: Context, arm: Arm) -> dict[str, np.ndarray]:
    chat = context.chat
    pairs = [_pair(context, position, arm) for position in range(context.n_rows)]
    losses = context.scorer.token_nll(pairs, f"response loss ({arm})")
    end = chat.end_of_turn
    whole = [pair is not None and pair.response[-1] == end for pair in pairs]
    own = [loss[:-1] if has_end else loss for loss, has_end in zip(losses, whole, strict=True)]
    return {
        "total": np.array([loss.sum() if loss.size else np.nan for loss in own]),
        "tokens": np.array([loss.size for loss in own]),
        "end": np.array([loss[-1] if has_end else np.nan for loss, has_end in zip(losses, whole, strict=True)]),
    }


def _pair(context: Context, position: int, arm: Arm) -> Pair | None:
    chat = context.chat
    row = context.pool[position]
    pair = chat.pair(context.task, row)
    if pair is None or pair.response == (chat.end_of_turn,):
        return None
    if arm == "prompt":
        return pair
    front = chat.answer_header() if arm == "header" else chat.single_token()
    return Pair(front, pair.response[: chat.max_length - len(front)])
