"""How sure a model is of its next token, step by step: of its own greedy answer, or of a given response.

All numbers come from the logits of a step while they are there: nothing of a vocabulary's size is kept. The LM head
runs in float32 also in a half-precision model, as it does for losses: the two best logits would often be rounded to the
same number there, and the margin to 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dwbench.models.chat import Chat, Pair
from dwbench.representations.generation import greedy
from dwbench.representations.token_nll import float32_head, over_responses

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Steps:
    """Uncertainty of one row's steps, in order; arrays [steps], float32.

    Attributes:
        entropy: of the next-token distribution, in nats.
        margin: probability of the likeliest token minus that of the second, in [0, 1].
        logp: log-probability (nats) of the token that was taken.
        ended: the last step is an end-of-turn token.
    """

    entropy: np.ndarray
    margin: np.ndarray
    logp: np.ndarray
    ended: bool


def step_values(logits: "torch.Tensor", taken: "torch.Tensor | None" = None) -> "torch.Tensor":
    """Entropy, margin and log-probability of rows of logits [rows, vocabulary], float32; [3, rows].

    `taken` [rows] are ids; None: the likeliest token of each row.
    """
    import torch

    best = logits.topk(2, dim=1).values
    shifted = logits - best[:, :1]  # keeps the sums near 1, so that float32 is exact enough for a large vocabulary
    mass = shifted.exp()
    total = mass.sum(dim=1)
    entropy = total.log() - (mass * shifted).sum(dim=1) / total
    margin = -torch.expm1(best[:, 1] - best[:, 0]) / total
    logit = 0.0 if taken is None else shifted.gather(1, taken[:, None])[:, 0]
    return torch.stack([entropy, margin, logit - total.log()])


def greedy_steps(model: Any, chat: Chat, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Steps]:
    """Uncertainty along the greedy answers to one batch of prompts, the end-of-turn step included."""
    import torch

    seen: list[torch.Tensor] = []
    with float32_head(model):
        answers = greedy(model, chat, prompts, max_new_tokens, observe=lambda logits: seen.append(step_values(logits)))
    values = torch.stack(seen).cpu().numpy()
    return [_steps(values[: answer.n_tokens, :, row].T, answer.finished) for row, answer in enumerate(answers)]


def given_steps(model: Any, chat: Chat, pairs: Sequence[Pair]) -> list[Steps]:
    """Uncertainty along the given responses, of one right-padded forward pass."""
    values = over_responses(model, pairs, step_values)
    return [_steps(of_pair, pair.response[-1] == chat.end_of_turn) for pair, of_pair in zip(pairs, values, strict=True)]


def _steps(values: np.ndarray, ended: bool) -> Steps:
    entropy, margin, logp = values
    return Steps(entropy, margin, logp, ended)
