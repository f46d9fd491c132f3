"""Model FLOP from shapes: 2 for each weight and token forward, plus attention; machine independent.

Embedding look-ups cost nothing; the LM head costs only the rows that it is applied to. Attention is counted causally:
a token at position p reads p + 1 keys, 2 x 2 x hidden_of_attention FLOP for each key and layer. Of a mixture of experts
each token passes through as many as its router picks.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dwbench.errors import UserError


@dataclass(frozen=True)
class Shape:
    """What FLOP depend on: weights in the decoder layers that a token passes through, LM head's size, layers, width of
    all heads together."""

    layer_weights: int
    vocab: int
    hidden: int
    layers: int
    attention_width: int

    @classmethod
    def of(cls, model: Any) -> "Shape":
        """Read off a loaded transformers causal LM. Raises UserError for experts of a layout that is not known here."""
        config = model.config
        heads = config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        decoder = model.get_decoder()
        return cls(
            layer_weights=_active_weights(decoder.layers, config),
            vocab=config.vocab_size,
            hidden=config.hidden_size,
            layers=config.num_hidden_layers,
            attention_width=heads * head_dim,
        )

    @classmethod
    def of_configuration(cls, config: Any) -> "Shape":
        """Of the causal LM that a transformers configuration describes, without weights."""
        import torch
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            return cls.of(AutoModelForCausalLM.from_config(config))  # type: ignore[no-untyped-call]

    def to_json(self) -> dict[str, int]:
        return asdict(self)

    def forward(self, lengths: Sequence[int], head_rows: int, behind: int = 0) -> float:
        """FLOP of forward passes over sequences of these lengths, with logits for `head_rows` positions in all. Each
        sequence stands behind a cached prefix of `behind` tokens."""
        tokens = sum(lengths)
        keys_read = sum(length * (behind + (length + 1) / 2) for length in lengths)
        return (
            2.0 * self.layer_weights * tokens
            + 4.0 * self.attention_width * self.layers * keys_read
            + 2.0 * self.vocab * self.hidden * head_rows
        )

    def decode(self, prompt: int, new: int) -> float:
        """FLOP of decoding `new` tokens one at a time behind a cached prompt of `prompt` tokens."""
        keys_read = sum(prompt + step + 1 for step in range(new))
        return (
            2.0 * self.layer_weights + 2.0 * self.vocab * self.hidden
        ) * new + 4.0 * self.attention_width * self.layers * keys_read

    def lora_step(self, lengths: Sequence[int], head_rows: int, checkpointing: bool) -> float:
        """FLOP of one training pass with frozen base weights: forward, gradients of the activations, and a second
        forward where activations are recomputed. The adapters themselves (below 2 %) are left out."""
        return (3.0 if checkpointing else 2.0) * self.forward(lengths, head_rows)


def _active_weights(layers: Any, config: Any) -> int:
    """Weights of the layers that a token passes through: all but the experts that its router does not pick."""
    sizes = {True: 0, False: 0}
    for name, weight in layers.named_parameters():
        sizes[".experts." in name] += weight.numel()
    of_experts, others = sizes[True], sizes[False]
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    active = getattr(config, "num_experts_per_tok", None)
    if not of_experts and not experts:
        return others
    if not (of_experts and experts and active):
        raise UserError(
            f"model: how many experts of a {config.model_type} are active is not known here, and its FLOP with it: "
            "take another one"
        )
    return others + int(of_experts * active // experts)
