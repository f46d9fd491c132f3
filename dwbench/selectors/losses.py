"""Stored response losses, shared by all selectors that are made of them (spec of the loss selectors, section 0).

Both arms score the same response ids: those that fit behind the row's own prompt within the model's `max_length`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dwbench.data.base import Example
from dwbench.models.chat import Chat, Pair, cut_response
from dwbench.selectors.context import Context
from dwbench.selectors.material import Checkpoint
from dwbench.selectors.texts import question_text

VERSION = 2

Arm = Literal["prompt", "header", "bos", "none"]
"""What stands in front of the response: the row's prompt, the bare header of an answer, one BOS token, or nothing.

With nothing in front the response's first token can't be predicted and is not scored.
"""

Template = Literal["chat", "plain"]
"""How the prompt is written: by the model's chat template, or as the row's own text (`question_text`) with a line break
behind it."""

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


def response_losses(
    context: Context, arm: Arm, checkpoint: Checkpoint | None = None, template: Template = "chat"
) -> Losses:
    """The losses of the pool's responses behind `arm`, of the scoring model or of a checkpoint of it.

    `template` is that of the row's prompt, which also says how much of the response fits, in all arms. Needs
    `responses`, `task` and `scorer`, with a checkpoint also `training`.
    """
    arrays = context.represent_rows(
        "response_nll",
        VERSION,
        {"arm": arm, "checkpoint": checkpoint.ref if checkpoint else None, "template": template},
        ("responses", "prompt", "scorer"),
        lambda positions: _compute(context, positions, arm, checkpoint, template),
    )
    return Losses(**arrays)


def _compute(
    context: Context, positions: range, arm: Arm, checkpoint: Checkpoint | None, template: Template
) -> dict[str, np.ndarray]:
    chat = context.chat
    pairs = [_pair(context, position, arm, template) for position in positions]
    scorer = context.scorer_with(checkpoint) if checkpoint else context.scorer
    losses = scorer.token_nll(pairs, f"response loss ({arm})")
    return loss_arrays(pairs, losses, chat.end_of_turn)


def loss_arrays(pairs: Sequence[Pair | None], losses: Sequence[np.ndarray], end_of_turn: int) -> dict[str, np.ndarray]:
    """The arrays of `Losses` from token losses; a response that kept its end-of-turn token ends with it."""
    whole = [pair is not None and pair.response[-1] == end_of_turn for pair in pairs]
    own = [loss[:-1] if has_end else loss for loss, has_end in zip(losses, whole, strict=True)]
    return {
        "total": np.array([loss.sum() if loss.size else np.nan for loss in own]),
        "tokens": np.array([loss.size for loss in own]),
        "end": np.array([loss[-1] if has_end else np.nan for loss, has_end in zip(losses, whole, strict=True)]),
    }


def _pair(context: Context, position: int, arm: Arm, template: Template) -> Pair | None:
    chat = context.chat
    row = context.pool[position]
    pair = chat.pair(context.task, row) if template == "chat" else plain_pair(chat, row)
    if pair is None or pair.response == (chat.end_of_turn,):
        return None
    if arm == "prompt":
        return pair
    if arm == "none":
        return Pair(pair.response[:1], pair.response[1:]) if len(pair.response) > 1 else None
    front = chat.answer_header() if arm == "header" else chat.single_token()
    return Pair(front, pair.response[: chat.max_length - len(front)])


def plain_pair(chat: Chat, row: Example) -> Pair | None:
    """The row's own text and a line break, and its response within `max_length`; None where nothing of it fits.

    Special tokens are those that the tokenizer puts in front of any text.
    """
    context = tuple(chat.tokenizer(f"{question_text(row)}\n")["input_ids"])
    response = cut_response(len(context), chat.response(row), chat.max_length)
    return Pair(context, response) if response else None
