"""Gradients at the LM head, with logits for only a few rows at any time."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dwbench.models.chat import Pair
from dwbench.representations import token_nll
from dwbench.representations.factors import Factors
from dwbench.representations.token_nll import head_alone, right_padded

if TYPE_CHECKING:
    import torch


def hidden_gradients(model: Any, outputs: Any, hidden: "torch.Tensor", tokens: "torch.Tensor") -> "torch.Tensor":
    """Gradients of the NLL of `tokens` [rows] with respect to the hidden states that predict them.

    Args:
        outputs: the decoder's; they lose their hidden states.
        hidden: [rows, hidden size]; what comes back has its shape and precision.
    """
    import torch

    found: list[torch.Tensor] = []
    with head_alone(model, outputs) as logits:
        for rows, wanted in _chunks(hidden.detach(), tokens):
            rows.requires_grad_(True)
            found += torch.autograd.grad(_summed_nll(logits(rows), wanted), rows)
    return torch.cat(found)


def head_norms(model: Any, pairs: Sequence[Pair]) -> "torch.Tensor":
    """Norms of the gradients of the mean response NLL with respect to the LM head's weight, float32 [pairs].

    No pass backward through the model: the gradient is the sum over tokens of (gradient of the head's output) x (its
    input). With tied embeddings it is the gradient by way of the output only.
    """
    import torch

    padded = right_padded(pairs, model.device)
    with torch.no_grad():
        outputs = model.get_decoder()(input_ids=padded.ids, attention_mask=padded.mask, use_cache=False)
    counts = [len(pair.response) for pair in pairs]
    hidden = torch.split(outputs.last_hidden_state[padded.predicting], counts)
    tokens = torch.split(padded.responses, counts)
    with head_alone(model, outputs) as logits:
        return torch.stack([_head_norm(model, logits, *response) for response in zip(hidden, tokens, strict=True)])


def _head_norm(
    model: Any, logits: "Callable[[torch.Tensor], torch.Tensor]", hidden: "torch.Tensor", tokens: "torch.Tensor"
) -> "torch.Tensor":
    """For one response. Where it is too long for one chunk, the gradient itself is added up: it takes as much memory
    as the head's weight, but all inner products between tokens would need all logits at once."""
    import torch

    def factors(rows: torch.Tensor, wanted: torch.Tensor) -> Factors:
        inputs, outputs = _at_head(model, logits, rows, wanted)
        return Factors(inputs, outputs, torch.full((1,), 1 / len(tokens), device=rows.device))

    chunks = list(_chunks(hidden, tokens))
    if len(chunks) == 1:
        return factors(*chunks[0]).square_norms()[0].sqrt()
    whole = factors(*chunks[0]).gradients()
    for chunk in chunks[1:]:
        whole += factors(*chunk).gradients()
    return whole.square().sum().sqrt()


def _at_head(
    model: Any, logits: "Callable[[torch.Tensor], torch.Tensor]", rows: "torch.Tensor", tokens: "torch.Tensor"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """What goes into the head for these rows and gradients of their summed NLL with respect to what comes out of it,
    [1, rows, ...]: what stands behind the head has its part in them."""
    import torch

    seen: list[torch.Tensor] = []

    def cut(head: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        seen.extend((args[0].detach(), output.detach().requires_grad_(True)))
        return seen[1]

    handle = model.get_output_embeddings().register_forward_hook(cut)
    try:
        with torch.enable_grad():
            loss = _summed_nll(logits(rows), tokens)
    finally:
        handle.remove()
    inputs, outputs = seen
    return inputs, torch.autograd.grad(loss, outputs)[0]


def _chunks(hidden: "torch.Tensor", tokens: "torch.Tensor") -> "Iterator[tuple[torch.Tensor, torch.Tensor]]":
    import torch

    return zip(*(torch.split(whole, token_nll.ROWS_AT_ONCE) for whole in (hidden, tokens)), strict=True)


def _summed_nll(logits: "torch.Tensor", tokens: "torch.Tensor") -> "torch.Tensor":
    return logits.logsumexp(dim=1).sum() - logits.gather(1, tokens[:, None]).sum()
