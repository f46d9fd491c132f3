"""Tiny random models with adapters, a plain loop to compare the gradient engine with, and an engine inside a stage."""

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from dwbench.cost import Cost
from dwbench.models.chat import Pair
from dwbench.representations.gradients import Gradients
from dwbench.store import Bench, Store

T = TypeVar("T")

SIZES: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}

ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "llama": lambda **options: LlamaForCausalLM(LlamaConfig(**(SIZES | options))),
    "qwen2": lambda **options: Qwen2ForCausalLM(Qwen2Config(**(SIZES | options))),
    "mistral": lambda **options: MistralForCausalLM(MistralConfig(**(SIZES | options))),
    "gemma": lambda **options: GemmaForCausalLM(GemmaConfig(**(SIZES | options), head_dim=8)),
    # Behind the head logits are capped, 3 tanh(logit / 3), and scaled.
    "gemma3": lambda **options: Gemma3ForCausalLM(
        Gemma3TextConfig(**(SIZES | options), head_dim=8, final_logit_softcapping=3.0)
    ),
    "cohere": lambda **options: CohereForCausalLM(CohereConfig(**(SIZES | options), logit_scale=0.3)),
}

PAIRS = [
    Pair(tuple(range(3, 3 + context)), tuple(range(20, 20 + response)))
    for context, response in ((1, 1), (9, 30), (20, 3), (2, 17), (5, 5))
]


def plain_model(architecture: str, attention: str = "sdpa", **options: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return ARCHITECTURES[architecture](attn_implementation=attention, **options).eval()


def adapted_model(architecture: str = "llama", attention: str = "sdpa") -> Any:
    """LoRA r 4 on all linear layers, A and B drawn; a PEFT model that was just made is in train mode."""
    config = LoraConfig(
        r=4, lora_alpha=8, lora_dropout=0.1, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    model = plain_model(architecture, attention)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return get_peft_model(model, config)


def loop_gradients(model: Any, pairs: Sequence[Pair], is_wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """One row after another by autograd: `named_parameters` that are wanted, [pairs, size]."""
    model = copy.deepcopy(model).eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_wanted(name))
    rows = []
    for pair in pairs:
        model.zero_grad()
        logits = model(input_ids=torch.tensor([[*pair.context, *pair.response]])).logits[0].float()
        predicted = logits[len(pair.context) - 1 : -1]
        torch.nn.functional.cross_entropy(predicted, torch.tensor(pair.response)).backward()
        rows.append(
            {name: p.grad.flatten().float().numpy() for name, p in model.named_parameters() if p.grad is not None}
        )
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def norms_of(gradients: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(np.sqrt(sum((rows.astype(np.float64) ** 2).sum(1) for rows in gradients.values())))


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], relative: float = 1e-5) -> None:
    """Each row of each parameter, relative to its length, or to a tenth of that of the row's whole gradient: some
    parameters have a gradient of 0, but for rounding."""
    assert found.keys() == expected.keys()
    floor = norms_of(expected) / 10
    for name, rows in expected.items():
        error = np.linalg.norm(found[name] - rows, axis=1)
        assert (error <= relative * np.maximum(np.linalg.norm(rows, axis=1), floor)).all(), (name, error)


def with_gradients(model: Any, work: Callable[[Gradients], T], token_budget: int = 4096) -> tuple[T, Cost]:
    """`work` done with an engine over `model` inside a stage, and what it cost."""
    found: list[T] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Store(Path(folder)))
        engine = Gradients(model, None, bench, token_budget)  # type: ignore[arg-type]  # it does not tokenise
        stage = bench.stage("test", {}, lambda _: found.append(work(engine)))
    return found[0], stage.cost
