"""Mean hidden states of whole sequences: the model's own embedding of a text."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def batch_mean_hidden(model: Any, sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """Mean over tokens of the last hidden states (behind the final norm), for one right-padded batch.

    Padding has no part in the mean (the Nuggets reference averages over it). The LM head is not applied.

    Args:
        model: a transformers causal LM in eval mode.
        sequences: token ids; every sequence has at least one.

    Returns:
        [sequences, hidden size], float32.
    """
    return _mean_hidden(model, sequences, lambda mask: mask)


def batch_weighted_hidden(model: Any, sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """The same mean with the weight t / (1 + ... + n) for token t of n, from 1: later tokens have read more (RDS+).

    Padding has no part in it here either (in the RDS+ reference it has).
    """
    return _mean_hidden(model, sequences, lambda mask: mask.cumsum(dim=1) * mask)


def _mean_hidden(
    model: Any, sequences: Sequence[Sequence[int]], weigh: "Callable[[torch.Tensor], torch.Tensor]"
) -> np.ndarray:
    """Mean with the weights [sequences, longest] that `weigh` makes of the mask; those of padding must be 0."""
    import torch

    lengths = torch.tensor([len(sequence) for sequence in sequences])
    ids = torch.zeros((len(sequences), int(lengths.max())), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(list(sequence))
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long().to(model.device)
    weights = weigh(mask)
    with torch.inference_mode():
        hidden = model.get_decoder()(input_ids=ids.to(model.device), attention_mask=mask, use_cache=False)
        summed = (hidden.last_hidden_state.float() * weights[:, :, None]).sum(dim=1)
        return np.asarray((summed / weights.sum(dim=1, keepdim=True)).cpu().numpy())
