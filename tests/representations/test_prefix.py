"""Continuations behind a cached prefix, and mean hidden states, against plain passes of several architectures."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scoring import with_scorer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from dwbench.models.chat import Pair
from dwbench.models.flop import Shape
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations.hidden import batch_mean_hidden
from dwbench.representations.prefix import read_prefix
from dwbench.representations.token_nll import batch_token_nll
from dwbench.selectors.models import LoadedModels

SIZES: dict[str, Any] = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "attn_implementation": "sdpa",
}

PREFIX = tuple(range(3, 40))
PAIRS = [
    Pair(tuple(range(50, 50 + context)), tuple(range(10, 10 + response)))
    for context, response in ((1, 1), (5, 9), (20, 3), (2, 30), (5, 9))
]


def build(kind: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "llama":
            model: Any = LlamaForCausalLM(LlamaConfig(**SIZES))
        elif kind == "qwen2":
            model = Qwen2ForCausalLM(Qwen2Config(**SIZES))
        elif kind == "mistral":
            model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None))
        else:  # a window that is shorter than the prefix
            model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=16))
    return model.eval()


@pytest.fixture(scope="module", params=["llama", "qwen2", "mistral", "mistral_window"])
def model(request: pytest.FixtureRequest) -> Any:
    return build(request.param)


def concatenated(model: Any, prefix: tuple[int, ...], pair: Pair) -> np.ndarray:
    return batch_token_nll(model, [Pair(prefix + pair.context, pair.response)])[0]


def test_the_same_as_plain_concatenation(model: Any) -> None:
    want = [concatenated(model, PREFIX, pair) for pair in PAIRS]
    without = [batch_token_nll(model, [pair])[0] for pair in PAIRS]
    read = read_prefix(model, PREFIX)
    for batch in ([0], [1, 4], [0, 1, 2, 3, 4], [3, 0]):
        found = batch_token_nll(model, [PAIRS[position] for position in batch], read)
        for position, nll in zip(batch, found, strict=True):
            np.testing.assert_allclose(nll, want[position], atol=1e-5, rtol=0)
            assert np.abs(nll - without[position]).max() > 1e-2  # the prefix matters


def test_no_batch_changes_the_cache(model: Any) -> None:
    read = read_prefix(model, PREFIX)
    layers = read.cache.layers
    before = [(layer.keys.clone(), layer.values.clone(), layer.get_seq_length()) for layer in layers]
    first = batch_token_nll(model, PAIRS, read)
    for layer, (keys, values, n_tokens) in zip(layers, before, strict=True):
        assert torch.equal(layer.keys, keys)
        assert torch.equal(layer.values, values)
        assert layer.get_seq_length() == n_tokens == len(PREFIX)
    for one, other in zip(first, batch_token_nll(model, PAIRS, read), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_prefix_of_one_token(model: Any) -> None:
    found = batch_token_nll(model, PAIRS, read_prefix(model, PREFIX[:1]))
    for nll, pair in zip(found, PAIRS, strict=True):
        np.testing.assert_allclose(nll, concatenated(model, PREFIX[:1], pair), atol=1e-5, rtol=0)


def test_mean_hidden_leaves_padding_out(model: Any) -> None:
    sequences = [list(range(3, 3 + n)) for n in (1, 50, 7)]
    found = batch_mean_hidden(model, sequences)
    assert found.dtype == np.float32
    with torch.inference_mode():
        for row, sequence in zip(found, sequences, strict=True):
            states = model(input_ids=torch.tensor([sequence]), output_hidden_states=True).hidden_states[-1]
            np.testing.assert_allclose(row, states[0].mean(dim=0).numpy(), atol=1e-5, rtol=0)


def test_any_batching_and_its_cost(tiny_lm: LM, models: LoadedModels) -> None:
    want, plain = with_scorer(
        models,
        tiny_lm,
        lambda scorer: scorer.token_nll([Pair(PREFIX + pair.context, pair.response) for pair in PAIRS]),
    )
    shape = Shape.of(load_model(tiny_lm))
    for token_budget in (1, 60, 100_000):
        lm = dataclasses.replace(tiny_lm, token_budget=token_budget)
        found, cost = with_scorer(models, lm, lambda scorer: scorer.token_nll_behind(PREFIX, [None, *PAIRS]))
        assert found[0].size == 0
        for nll, expected in zip(found[1:], want, strict=True):
            np.testing.assert_allclose(nll, expected, atol=1e-5, rtol=0)
        assert cost.forward_tokens == len(PREFIX) + sum(pair.length for pair in PAIRS)
        assert cost.forward_calls == 1 + len(PAIRS)
        # All that is saved is to run the prefix again.
        again = (len(PAIRS) - 1) * shape.forward([len(PREFIX)], 0)
        assert cost.flop == pytest.approx(plain.flop - again)


def test_without_any_continuation_nothing_is_run(tiny_lm: LM, models: LoadedModels) -> None:
    found, cost = with_scorer(models, tiny_lm, lambda scorer: scorer.token_nll_behind(PREFIX, [None, None]))
    assert [nll.size for nll in found] == [0, 0]
    assert cost.forward_tokens == cost.forward_calls == cost.flop == 0


def test_mean_hidden_in_any_batching_and_its_cost(tiny_lm: LM, models: LoadedModels) -> None:
    sequences = [tuple(range(3, 3 + n)) for n in (5, 80, 5, 30)]
    shape = Shape.of(load_model(tiny_lm))
    rows = []
    for token_budget in (1, 100, 100_000):
        lm = dataclasses.replace(tiny_lm, token_budget=token_budget)
        found, cost = with_scorer(models, lm, lambda scorer: scorer.mean_hidden(sequences))
        rows.append(found)
        assert cost.forward_tokens == 120
        assert cost.flop == pytest.approx(shape.forward([5, 80, 5, 30], 0))
    assert rows[0].shape == (4, shape.hidden)
    np.testing.assert_allclose(rows[1], rows[0], atol=1e-5, rtol=0)
    np.testing.assert_allclose(rows[2], rows[0], atol=1e-5, rtol=0)
    none, _ = with_scorer(models, tiny_lm, lambda scorer: scorer.mean_hidden([]))
    assert none.shape == (0, shape.hidden)
