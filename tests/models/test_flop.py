"""FLOP of mixtures of experts: what a token passes through, on a device that holds no weights."""

from typing import Any

import pytest
from transformers import LlamaConfig, MixtralConfig, Qwen2MoeConfig

from dwbench.errors import UserError
from dwbench.models.flop import Shape

H, INNER, VOCAB, HEADS, KEY_HEADS = 32, 48, 120, 4, 2
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": H,
    "intermediate_size": INNER,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_HEADS,
}
ATTENTION = 2 * H * H + 2 * H * (H // HEADS * KEY_HEADS)
NORMS = 2 * H


def test_a_dense_model_by_hand() -> None:
    shape = Shape.of_configuration(LlamaConfig(**SIZES))
    assert shape == Shape(2 * (ATTENTION + NORMS + 3 * H * INNER), VOCAB, H, 2, H)
    keys_read = 1 + 2 + 3 + 4 + 5
    assert shape.forward([5], 1) == 2 * shape.layer_weights * 5 + 4 * H * 2 * keys_read + 2 * VOCAB * H


def test_only_the_experts_that_a_token_passes_through_count() -> None:
    """2 of 8; the router is read by every token."""
    config = MixtralConfig(**SIZES, num_local_experts=8, num_experts_per_tok=2)
    assert Shape.of_configuration(config).layer_weights == 2 * (ATTENTION + NORMS + 8 * H + 2 * 3 * H * INNER)
    all_of_them = MixtralConfig(**SIZES, num_local_experts=8, num_experts_per_tok=8)
    assert Shape.of_configuration(all_of_them).layer_weights == 2 * (ATTENTION + NORMS + 8 * H + 8 * 3 * H * INNER)


def test_shared_experts_and_dense_layers_count_whole() -> None:
    config = Qwen2MoeConfig(
        **SIZES,
        num_experts=6,
        num_experts_per_tok=3,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=24,
        mlp_only_layers=[0],
    )
    biases = H + 2 * (H // HEADS * KEY_HEADS)
    dense = ATTENTION + biases + NORMS + 3 * H * INNER
    sparse = ATTENTION + biases + NORMS + 6 * H + H + 3 * H * 24 + 3 * 3 * H * 16
    assert Shape.of_configuration(config).layer_weights == dense + sparse


def test_experts_that_are_not_known_are_refused() -> None:
    config = MixtralConfig(**SIZES, num_local_experts=8, num_experts_per_tok=2)
    config.num_experts_per_tok = 0
    with pytest.raises(UserError, match="how many experts of a mixtral are active is not known"):
        Shape.of_configuration(config)
    dense = LlamaConfig(**SIZES, num_experts=8)
    with pytest.raises(UserError, match="experts of a llama"):
        Shape.of_configuration(dense)
