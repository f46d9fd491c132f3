"""One head for losses and uncertainty: a few rows at a time, in float32, with all that a model does behind it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scoring import with_scorer
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from dwbench.models.chat import Pair
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations import token_nll
from dwbench.representations.token_nll import batch_token_nll, float32_head, over_responses
from dwbench.representations.uncertainty import step_values
from dwbench.selectors.models import LoadedModels

SIZES: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "attn_implementation": "sdpa",
}

PAIRS = [
    Pair(tuple(range(3, 3 + context)), tuple(range(20, 20 + response)))
    for context, response in ((1, 1), (9, 30), (20, 3), (2, 17))
]


def llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**SIZES))


def gemma3() -> Any:
    """Logits are capped: 3 tanh(logit / 3)."""
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, head_dim=8, final_logit_softcapping=3.0))


def granite() -> Any:
    return GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=4.0))


def cohere() -> Any:
    return CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.3))


def mixtral() -> Any:
    return MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=4, output_router_logits=True))


@pytest.fixture(params=[llama, gemma3, granite, cohere, mixtral])
def model(request: pytest.FixtureRequest) -> Any:
    make: Callable[[], Any] = request.param
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = make()
    return made.eval()


def own_losses(model: Any, pair: Pair) -> np.ndarray:
    """From the model's own logits of one unpadded text."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*pair.context, *pair.response]])).logits[0].double()
    logp = torch.log_softmax(logits, dim=-1)[len(pair.context) - 1 : -1]
    return np.asarray(-logp.gather(1, torch.tensor(pair.response)[:, None])[:, 0])


@pytest.mark.parametrize("rows_at_once", [1, 7, 1000])
def test_whatever_a_model_does_behind_its_head(rows_at_once: int, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_nll, "ROWS_AT_ONCE", rows_at_once)
    rows: list[int] = []
    hook = model.get_output_embeddings().register_forward_hook(lambda head, args, out: rows.append(out.shape[-2]))
    found = batch_token_nll(model, PAIRS)
    hook.remove()
    assert max(rows) <= rows_at_once
    assert sum(rows) == sum(len(pair.response) for pair in PAIRS)
    for nll, pair in zip(found, PAIRS, strict=True):
        np.testing.assert_allclose(nll, own_losses(model, pair), atol=1e-5, rtol=0)
        assert nll.dtype == np.float64
    # The model is as it was.
    np.testing.assert_allclose(batch_token_nll(model, PAIRS[:1])[0], own_losses(model, PAIRS[0]), atol=1e-5, rtol=0)


def test_what_stands_behind_the_head_matters() -> None:
    """Else the test above could not fail."""
    for make in (gemma3, granite, cohere):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            model = make().eval()
        with torch.inference_mode():
            hidden = model.get_decoder()(input_ids=torch.tensor([PAIRS[1].context])).last_hidden_state
            assert (model.lm_head(hidden) - model(input_ids=torch.tensor([PAIRS[1].context])).logits).abs().max() > 0.5


def test_an_error_leaves_the_model_as_it_was(model: Any) -> None:
    def fail(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        over_responses(model, PAIRS, fail)
    assert "forward" not in vars(model.get_decoder())
    assert "forward" not in vars(model.get_output_embeddings())


def test_half_precision_losses_are_of_a_float32_head(model: Any) -> None:
    """The decoder's output is rounded, the logits are not."""
    half = model.to(torch.bfloat16)
    pair = PAIRS[1]
    with float32_head(half):
        exact = own_losses(half, pair)
    np.testing.assert_allclose(batch_token_nll(half, [pair])[0], exact, atol=1e-5, rtol=0)
    assert np.abs(own_losses(half, pair) - exact).max() > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_losses_are_what_uncertainty_is_made_of(dtype: str, tiny_lm: LM, models: LoadedModels) -> None:
    lm = dataclasses.replace(tiny_lm, dtype=dtype)
    generator = np.random.default_rng(1)
    pairs = [
        Pair(tuple(generator.integers(100, 8_000, n).tolist()), tuple(generator.integers(100, 8_000, m).tolist()))
        for n, m in ((30, 9), (5, 40), (12, 1))
    ]
    losses, _ = with_scorer(models, lm, lambda scorer: scorer.token_nll(pairs))
    steps, _ = with_scorer(models, lm, lambda scorer: scorer.response_uncertainty(pairs))
    for loss, one in zip(losses, steps, strict=True):
        np.testing.assert_allclose(-one.logp, loss, atol=1e-5, rtol=1e-6)


def test_a_half_precision_model_with_an_adapter(tiny_lm: LM) -> None:
    """Which is not merged, so that the model is PEFT's."""
    from peft import LoraConfig, get_peft_model

    plain = load_model(dataclasses.replace(tiny_lm, dtype="bfloat16"))
    before = batch_token_nll(plain, PAIRS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tuned = get_peft_model(plain, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)).eval()
    found = batch_token_nll(tuned, PAIRS)
    with float32_head(tuned):
        expected = [own_losses(tuned, pair) for pair in PAIRS]
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=0.05)  # padding moves bfloat16
    assert np.abs(np.concatenate(found) - np.concatenate(before)).max() > 0.1


def test_step_values_come_in_the_order_of_the_responses(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_nll, "ROWS_AT_ONCE", 5)
    values = over_responses(model, PAIRS, step_values)
    assert [of_pair.shape for of_pair in values] == [(3, len(pair.response)) for pair in PAIRS]
    for of_pair, nll in zip(values, batch_token_nll(model, PAIRS), strict=True):
        np.testing.assert_allclose(-of_pair[2], nll, atol=1e-5)
