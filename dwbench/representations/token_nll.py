"""Negative log-likelihood of response tokens behind a context: the one number that all loss selectors are made of."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dwbench.models.chat import Pair
from dwbench.representations.prefix import CachedPrefix

if TYPE_CHECKING:
    import torch


def batch_token_nll(model: Any, pairs: Sequence[Pair], prefix: CachedPrefix | None = None) -> list[np.ndarray]:
    """Token NLL of the responses of one right-padded batch, in nats.

    The LM head is applied to the rows that predict a response token and to no others. Its logits are taken to
    float32, and the loss is `logsumexp - logit`: torch's `log_softmax` is biased by -8e-6 a token on CPUs.

    Args:
        model: a transformers causal LM in eval mode.
        pairs: contexts and responses; every context has at least one token.
        prefix: what stands in front of every context.

    Returns:
        For each pair an array [response tokens], float64.
    """
    import torch

    padded = right_padded(pairs, model.device)
    mask, cache = (padded.mask, None) if prefix is None else (prefix.mask(padded.mask), prefix.cache)
    logits = rows_logits(model, padded.ids, mask, padded.predicting, cache).float()
    chosen = logits.gather(1, padded.responses[:, None])[:, 0]
    nll = (torch.logsumexp(logits, dim=1) - chosen).double().cpu().numpy()
    ends = np.cumsum([len(pair.response) for pair in pairs])
    return np.split(nll, ends[:-1])


class Padded(NamedTuple):
    """A right-padded batch: `ids`, `mask` and `predicting` (true where the next token is one of the response) [pairs,
    longest], and the tokens of all responses [response tokens], in row-major order."""

    ids: "torch.Tensor"
    mask: "torch.Tensor"
    predicting: "torch.Tensor"
    responses: "torch.Tensor"


def right_padded(pairs: Sequence[Pair], device: Any) -> Padded:
    """One batch of `pairs` on `device`; every context has at least one token."""
    import torch

    longest = max(pair.length for pair in pairs)
    ids = torch.zeros((len(pairs), longest), dtype=torch.long)
    mask = torch.zeros((len(pairs), longest), dtype=torch.long)
    predicting = torch.zeros((len(pairs), longest), dtype=torch.bool)
    for row, pair in enumerate(pairs):
        ids[row, : pair.length] = torch.tensor([*pair.context, *pair.response])
        mask[row, : pair.length] = 1
        predicting[row, len(pair.context) - 1 : pair.length - 1] = True
    responses = torch.tensor([token for pair in pairs for token in pair.response])
    return Padded(ids.to(device), mask.to(device), predicting.to(device), responses.to(device))


def rows_logits(
    model: Any, ids: "torch.Tensor", mask: "torch.Tensor", wanted: "torch.Tensor", cache: Any = None
) -> "torch.Tensor":
    """Logits [wanted rows, vocabulary] of the positions where `wanted` [batch, length] is true, in row-major order.
    `cache` holds what stands in front of `ids`; `mask` covers both.

    The positions are picked in front of the LM head, so that whatever a model does behind it (scaling, soft caps)
    is done to them.
    """
    import torch

    head = model.get_output_embeddings()

    def pick(module: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        return (args[0][wanted],)

    hook = head.register_forward_pre_hook(pick)
    try:
        with torch.inference_mode():
            cached = {"past_key_values": cache, "use_cache": cache is not None}
            logits: torch.Tensor = model(input_ids=ids, attention_mask=mask, **cached).logits
    finally:
        hook.remove()
    return logits
