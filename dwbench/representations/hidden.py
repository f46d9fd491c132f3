"""Mean hidden states of whole sequences: the model's own embedding of a text."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def batch_mean_hidden(model: Any, sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """Mean over tokens of the last hidden states (behind the final norm), for one right-padded batch.

    Padding has no part in the mean (the Nuggets reference averages over it). The LM head is not applied.

    Args:
        model: a transformers causal LM in eval mode.
        sequences: token ids; every sequence has at least one.

    Returns:
        [sequences, hidden size], float32.
    """
    import torch

    lengths = torch.tensor([len(sequence) for sequence in sequences])
    ids = torch.zeros((len(sequences), int(lengths.max())), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(list(sequence))
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long().to(model.device)
    with torch.inference_mode():
        hidden = model.get_decoder()(input_ids=ids.to(model.device), attention_mask=mask, use_cache=False)
        summed = (hidden.last_hidden_state.float() * mask[:, :, None]).sum(dim=1)
        return np.asarray((summed / mask.sum(dim=1, keepdim=True)).cpu().numpy())
