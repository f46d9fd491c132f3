"""Negative log-likelihood of response tokens behind a context: the one number that all loss selectors are made of.

The LM head is applied to the rows that predict a response token and to no others, a few at a time, and in float32 also
in a half-precision model: its own logits have 8 bits there, and losses of thousands of rows would not fit in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dwbench.models.chat import Pair
from dwbench.representations.prefix import CachedPrefix

if TYPE_CHECKING:
    import torch

ROWS_AT_ONCE = 256
"""Rows of logits that there are at any time, with temporaries of the vocabulary's size."""


def batch_token_nll(model: Any, pairs: Sequence[Pair], prefix: CachedPrefix | None = None) -> list[np.ndarray]:
    """Token NLL of the responses of one right-padded batch, in nats.

    The loss is `logsumexp - logit`: torch's `log_softmax` is biased by -8e-6 a token on CPUs.

    Args:
        model: a transformers causal LM in eval mode.
        pairs: contexts and responses; every context has at least one token.
        prefix: what stands in front of every context.

    Returns:
        For each pair an array [response tokens], float64.
    """
    import torch

    def nll(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return torch.logsumexp(logits, dim=1) - logits.gather(1, tokens[:, None])[:, 0]

    return [found.astype(np.float64) for found in over_responses(model, pairs, nll, prefix)]


def over_responses(
    model: Any,
    pairs: Sequence[Pair],
    read: "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]",
    prefix: CachedPrefix | None = None,
) -> list[np.ndarray]:
    """What `read` makes of the logits that predict the response tokens of one right-padded batch.

    The decoder runs once, the rest of the model for each few rows (`head_alone`).

    Args:
        model, pairs, prefix: as for `batch_token_nll`.
        read: of logits [rows, vocabulary], float32, and the tokens that they predict [rows]; gives [..., rows].

    Returns:
        For each pair an array [..., response tokens].
    """
    import torch

    padded = right_padded(pairs, model.device)
    mask, cache = (padded.mask, None) if prefix is None else (prefix.mask(padded.mask), prefix.cache)
    with torch.inference_mode():
        decoder = model.get_decoder()
        outputs = decoder(input_ids=padded.ids, attention_mask=mask, past_key_values=cache, use_cache=cache is not None)
        hidden = outputs.last_hidden_state[padded.predicting]
        with head_alone(model, outputs) as logits:
            chunks = (torch.split(whole, ROWS_AT_ONCE) for whole in (hidden, padded.responses))
            parts = [read(logits(rows), tokens) for rows, tokens in zip(*chunks, strict=True)]
        values = torch.cat(parts, dim=-1).cpu().numpy()
    ends = np.cumsum([len(pair.response) for pair in pairs])
    return np.split(values, ends[:-1], axis=-1)


@contextmanager
def head_alone(model: Any, outputs: Any) -> "Iterator[Callable[[torch.Tensor], torch.Tensor]]":
    """Inside the block a function from hidden states [rows, hidden size] to logits [rows, vocabulary], float32.

    It is all that the model does behind its decoder (scaling and soft caps too): the decoder's place is taken by its
    `outputs`, in which the rows are put.
    """
    import torch

    decoder = model.get_decoder()
    ids = torch.zeros((1, 1), dtype=torch.long, device=model.device)

    def logits(rows: torch.Tensor) -> torch.Tensor:
        outputs.last_hidden_state = rows[None]
        found: torch.Tensor = model(input_ids=ids).logits[0]
        return found

    decoder.forward = lambda *args, **options: outputs
    try:
        with float32_head(model):
            yield logits
    finally:
        del decoder.forward


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
