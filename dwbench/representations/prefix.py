"""Keys and values of a shared prefix: run once, read by any number of continuations."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class CachedPrefix:
    """A prefix that a model has read.

    Attributes:
        n_tokens: its length.
        cache: its keys and values as a transformers cache that no forward pass changes. A pass over a batch of
            continuations expands them to the batch, one layer at a time.
    """

    n_tokens: int
    cache: Any

    def mask(self, of_continuations: "torch.Tensor") -> "torch.Tensor":
        """The attention mask [batch, length] of right-padded continuations with the prefix in front."""
        import torch

        return torch.hstack([of_continuations.new_ones((len(of_continuations), self.n_tokens)), of_continuations])


def read_prefix(model: Any, prefix: Sequence[int]) -> CachedPrefix:
    """Run `model` (a transformers causal LM in eval mode) over `prefix`, at least one token, without the LM head."""
    import torch
    from transformers import Cache, DynamicCache

    class ReadOnlyCache(Cache):
        def update(
            self,
            key_states: torch.Tensor,
            value_states: torch.Tensor,
            layer_idx: int,
            *args: Any,
            **options: Any,  # the library's calling convention
        ) -> tuple[torch.Tensor, torch.Tensor]:
            layer: Any = copy.copy(self.layers[layer_idx])  # shallow: a layer grows by new tensors
            layer.keys = layer.keys.expand(len(key_states), -1, -1, -1)
            layer.values = layer.values.expand(len(value_states), -1, -1, -1)
            grown: tuple[torch.Tensor, torch.Tensor] = layer.update(key_states, value_states, *args, **options)
            return grown

    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        ids = torch.tensor([list(prefix)], device=model.device)
        model.get_decoder()(input_ids=ids, past_key_values=cache, use_cache=True)
    return CachedPrefix(len(prefix), ReadOnlyCache(layers=cache.layers))
