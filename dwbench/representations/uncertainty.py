"""How sure a model is of its next token, step by step: of its own greedy answer, or of a given response.

All numbers come from the logits of a step while they are there: nothing of a vocabulary's size is kept. The LM head
runs in float32 also in a half-precision model, where the two best logits would often be rounded to the same number
and the margin to 0.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dwbench.models.chat import Pair
from dwbench.representations.generation import greedy
from dwbench.representations.token_nll import right_padded, rows_logits

if TYPE_CHECKING:
    import torch

ROWS_AT_ONCE = 256
"""Rows of logits that temporaries of the vocabulary's size are made for."""


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
    """Entropy, margin and log-probability of rows of logits [rows, vocabulary]; float32 [3, rows].

    `taken` [rows] are ids; None: the likeliest token of each row.
    """
    import torch

    parts = []
    for start in range(0, logits.shape[0], ROWS_AT_ONCE):
        rows = logits[start : start + ROWS_AT_ONCE].float()
        best = rows.topk(2, dim=1).values
        shifted = rows - best[:, :1]  # keeps the sums near 1, so that float32 is exact enough for a large vocabulary
        mass = shifted.exp()
        total = mass.sum(dim=1)
        entropy = total.log() - (mass * shifted).sum(dim=1) / total
        margin = -torch.expm1(best[:, 1] - best[:, 0]) / total
        logit = 0.0 if taken is None else shifted.gather(1, taken[start : start + ROWS_AT_ONCE, None])[:, 0]
        parts.append(torch.stack([entropy, margin, logit - total.log()]))
    return torch.cat(parts, dim=1)


def greedy_steps(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Steps]:
    """Uncertainty along the greedy answers to one batch of prompts, the end-of-turn step included."""
    import torch

    seen: list[torch.Tensor] = []
    with float32_head(model):
        answers = greedy(
            model, tokenizer, prompts, max_new_tokens, observe=lambda logits: seen.append(step_values(logits))
        )
    values = torch.stack(seen).cpu().numpy()
    return [_steps(values[: answer.n_tokens, :, row].T, answer.finished) for row, answer in enumerate(answers)]


def given_steps(model: Any, tokenizer: Any, pairs: Sequence[Pair]) -> list[Steps]:
    """Uncertainty along the given responses, of one right-padded forward pass."""
    padded = right_padded(pairs, model.device)
    with float32_head(model):
        logits = rows_logits(model, padded.ids, padded.mask, padded.predicting)
    values = step_values(logits, padded.responses).cpu().numpy()
    ends = np.cumsum([len(pair.response) for pair in pairs])
    last = int(tokenizer.eos_token_id)
    return [
        _steps(part, pair.response[-1] == last)
        for pair, part in zip(pairs, np.split(values, ends[:-1], axis=1), strict=True)
    ]


def _steps(values: np.ndarray, ended: bool) -> Steps:
    entropy, margin, logp = values
    return Steps(entropy, margin, logp, ended)


@contextmanager
def float32_head(model: Any) -> Iterator[None]:
    """Inside the block a half-precision model's LM head computes in float32, from a copy of its weights."""
    import torch

    head = model.get_output_embeddings()
    if head.weight.dtype == torch.float32:
        yield
        return
    weight = head.weight.detach().float()
    bias = None if head.bias is None else head.bias.detach().float()
    head.forward = lambda hidden: torch.nn.functional.linear(hidden.float(), weight, bias)
    try:
        yield
    finally:
        del head.forward
