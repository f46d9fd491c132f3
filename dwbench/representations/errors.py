"""How far a model's predictions are from the tokens of a given response: EL2N and margins, from one forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dwbench.models.chat import Pair
from dwbench.representations.token_nll import over_responses

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TokenErrors:
    """Errors of one response's tokens, in order; arrays [response tokens], float64.

    With p the predicted distribution and y the token:

    Attributes:
        el2n: ||p - onehot(y)||, in [0, sqrt 2].
        margin: p_y minus the largest probability of another token, in [-1, 1].
    """

    el2n: np.ndarray
    margin: np.ndarray


def token_errors(logits: "torch.Tensor", tokens: "torch.Tensor") -> "torch.Tensor":
    """EL2N and margin of rows of logits [rows, vocabulary], float32, for the tokens [rows] that follow; [2, rows].

    EL2N is sqrt(sum_j p_j^2 - 2 p_y + 1), added up in another order: 1 - p_y is the sum of the other probabilities, so
    that the error of a token that the model is sure of does not drown in the rounding of 1.
    """
    import torch

    mass = (logits - logits.amax(dim=1, keepdim=True)).exp()
    p = mass / mass.sum(dim=1, keepdim=True)
    own = tokens[:, None]
    others = p.scatter(1, own, 0.0)
    el2n = torch.sqrt(others.sum(dim=1).square() + others.square().sum(dim=1))
    return torch.stack([el2n, p.gather(1, own)[:, 0] - others.amax(dim=1)])


def batch_errors(model: Any, pairs: Sequence[Pair]) -> list[TokenErrors]:
    """Errors of the responses of one right-padded batch."""
    return [TokenErrors(*values.astype(np.float64)) for values in over_responses(model, pairs, token_errors)]
