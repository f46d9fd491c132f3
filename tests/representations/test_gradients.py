"""The gradient engine against a plain loop: all parts, any batch, any attention, recomputation, cost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gradient_models import (
    PAIRS,
    adapted_model,
    assert_close,
    loop_gradients,
    norms_of,
    plain_model,
    with_gradients,
)
from safetensors.torch import save_file
from transformers import Phi3Config

from dwbench.errors import UserError
from dwbench.models.flop import Shape
from dwbench.models.loading import load_model
from dwbench.models.spec import LM
from dwbench.representations import gradients as module
from dwbench.representations import token_nll
from dwbench.representations.adam import Adam, Directions, adam_direction
from dwbench.representations.factors import Factors
from dwbench.representations.gradients import Gradients, budgets
from dwbench.representations.per_sample import Wanted, backward, check_last_v, wanted
from dwbench.representations.projection import Projection, Projector

TOKENS = sum(pair.length for pair in PAIRS)


def is_lora(name: str) -> bool:
    return "lora_" in name


def last_v(name: str) -> bool:
    return "layers.1.self_attn.v_proj." in name and "lora_" not in name and name.endswith("weight")


@pytest.fixture
def batched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches as on a GPU, and no smaller than forward ones."""
    monkeypatch.setattr(module, "budgets", lambda device, token_budget: (token_budget, token_budget))


@pytest.mark.usefixtures("batched")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral", "gemma", "gemma3"])
def test_one_padded_batch_is_the_plain_loop(architecture: str, attention: str) -> None:
    model = adapted_model(architecture, attention)
    expected = loop_gradients(model, PAIRS, is_lora)
    assert len(expected) == 28
    found, cost = with_gradients(model, lambda engine: engine.collect(PAIRS))
    assert_close(found, expected)
    assert all(rows.dtype == np.float32 for rows in found.values())
    assert cost.backward_calls == len(PAIRS)


@pytest.mark.usefixtures("batched")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral", "gemma"])
def test_recomputed_activations(architecture: str, attention: str) -> None:
    """transformers recomputes only in train mode, which a layer can be in without its dropout."""
    model = adapted_model(architecture, attention)
    expected = loop_gradients(model, PAIRS, is_lora)
    model.activation_checkpointing_enable({"use_reentrant": False})
    passes: list[int] = []
    model.get_decoder().layers[0].mlp.register_forward_pre_hook(lambda *_: passes.append(1))

    def work(engine: Gradients) -> dict[str, np.ndarray]:
        for layer in model.get_decoder().layers:
            layer.training = True
        return engine.collect(PAIRS)

    found, _ = with_gradients(model, work)
    assert_close(found, expected)
    assert len(passes) == 4  # warm-up and batch, twice each


def test_dropout_is_off() -> None:
    model = adapted_model()
    assert model.training
    found, _ = with_gradients(model, lambda engine: [engine.norms(PAIRS, "lora_all") for _ in range(2)])
    np.testing.assert_array_equal(found[0], found[1])
    assert not model.training


@pytest.mark.usefixtures("batched")
@pytest.mark.parametrize("rows_at_once", [7, 256])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "cohere"])
def test_norms_of_parts(architecture: str, rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with logits for fewer rows at a time than a response has."""
    monkeypatch.setattr(token_nll, "ROWS_AT_ONCE", rows_at_once)
    model = adapted_model(architecture)
    parts: dict[Any, Any] = {
        "lora_all": is_lora,
        "last_v_lora_b": lambda name: "layers.1.self_attn.v_proj.lora_B" in name,
        "last_v": last_v,
        "lm_head": lambda name: "lm_head" in name,
    }
    expected = {part: norms_of(loop_gradients(model, PAIRS, is_wanted)) for part, is_wanted in parts.items()}
    rows: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda head, args, output: rows.append(output.shape[-2]))
    for part in parts:
        found, _ = with_gradients(model, lambda engine, part=part: engine.norms(PAIRS, part))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected[part], rtol=1e-5)
    assert max(rows) <= rows_at_once


def test_a_tied_head_has_the_gradient_of_an_untied_one() -> None:
    """By way of the output only; what the embeddings get as inputs is left out."""
    untied = plain_model("llama")
    tied = plain_model("llama", tie_word_embeddings=True)
    untied.load_state_dict(tied.state_dict())
    expected = norms_of(loop_gradients(untied, PAIRS, lambda name: "lm_head" in name))
    found, _ = with_gradients(tied, lambda engine: engine.norms(PAIRS, "lm_head"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    both = norms_of(loop_gradients(tied, PAIRS, lambda name: "embed_tokens" in name))
    assert (np.abs(both / expected - 1) > 1e-3).any()


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_value_projection_without_adapters(architecture: str) -> None:
    model = plain_model(architecture)
    expected = norms_of(loop_gradients(model, PAIRS, last_v))
    found, _ = with_gradients(model, lambda engine: engine.norms(PAIRS, "last_v"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("tokens", [1, 5, 40])
def test_norms_with_and_without_a_gradient(tokens: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    factors = Factors(
        torch.randn(3, tokens, 24, generator=generator),
        torch.randn(3, tokens, 16, generator=generator),
        torch.tensor([1.0, 0.5, 0.1]),
    )
    explicit = factors.gradients().square().sum(1)
    torch.testing.assert_close(factors.square_norms(), explicit, rtol=1e-5, atol=1e-6)
    expected = torch.einsum("bto,bti->boi", factors.outputs, factors.inputs).flatten(1) * factors.scale[:, None]
    torch.testing.assert_close(factors.gradients(), expected, rtol=1e-5, atol=1e-5)


def test_a_gradient_that_cancels() -> None:
    """Equal inputs, opposite errors: GraNd is 0, however it is worked out; by one of the two tokens alone it is not."""
    for width in (1, 100):
        inputs, outputs = torch.full((1, 2, width), 2.0), torch.tensor([[[0.5, -0.5], [-0.5, 0.5]]])
        assert float(Factors(inputs, outputs, torch.tensor([0.5])).square_norms()) == 0
        alone = Factors(inputs[:, :1], outputs[:, :1], torch.tensor([1.0])).square_norms()
        np.testing.assert_allclose(alone.sqrt(), 1.41421 * width**0.5, rtol=1e-5)


def saved_moments(model: Any, path: Path) -> dict[str, torch.Tensor]:
    """Drawn moments for all adapters, and a file of them."""
    generator = torch.Generator().manual_seed(1)
    moments = {
        f"{name}.{moment}": torch.rand(weight.shape, generator=generator) * 0.01
        for name, weight in model.named_parameters()
        if is_lora(name)
        for moment in ("exp_avg", "exp_avg_sq")
    }
    save_file(moments, path)
    return moments


@pytest.mark.usefixtures("batched")
@pytest.mark.parametrize("token_budget", [60, 100, 10_000])
def test_any_token_budget_and_rows_without_response(token_budget: int, tmp_path: Path) -> None:
    model = adapted_model("qwen2")
    pairs = [None, *PAIRS[:2], None, *PAIRS[2:]]
    known = [1, 2, 4, 5, 6]
    projector = Projector(Projection(dim=64))
    saved_moments(model, tmp_path / "moments.safetensors")
    steps = [Directions(Adam(tmp_path / "moments.safetensors", 7, form)) for form in ("textbook", "published")]

    def work(engine: Gradients) -> tuple[Any, ...]:
        collected = engine.collect(PAIRS[:2])
        products, squares = engine.products(pairs, collected)
        parts = [engine.norms(pairs, part)[:, None] for part in ("lora_all", "last_v", "lm_head")]
        features = [engine.features(pairs, projector, directions) for directions in (None, *steps)]
        return *features, products, squares[:, None], *parts

    found, _ = with_gradients(model, work, token_budget)
    expected, _ = with_gradients(model, work, 1)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == (7, other.shape[1])
        assert np.isnan(one).all(axis=1).tolist() == [True, False, False, True, False, False, False]
        assert not np.isnan(one[known]).any()
        np.testing.assert_allclose(one[known], other[known], rtol=1e-5, atol=1e-5 * np.abs(other[known]).max())


def test_a_row_of_which_one_product_overflows_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Gradients._summed

    def overflowing(self: Gradients, *others: Any) -> np.ndarray:
        found = real(self, *others)
        found[1, 0] = np.inf
        return found

    monkeypatch.setattr(Gradients, "_summed", overflowing)
    (products, squares), _ = with_gradients(
        adapted_model(), lambda engine: engine.products(PAIRS, engine.collect(PAIRS[:2]))
    )
    found = np.column_stack((products, squares))
    assert np.isnan(found).tolist() == [[row == 1] * 3 for row in range(len(PAIRS))]
    assert not np.isinf(found).any()


def test_a_norm_at_the_head_that_overflows_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "head_norms", lambda model, members: torch.full((len(members),), torch.inf))
    found, _ = with_gradients(plain_model("llama"), lambda engine: engine.norms(PAIRS, "lm_head"))
    assert np.isnan(found).all()


def test_no_rows_at_all() -> None:
    model = adapted_model()
    for pairs in ([], [None, None]):
        found, cost = with_gradients(model, lambda engine, pairs=pairs: engine.norms(pairs, "lora_all"))
        assert np.isnan(found).tolist() == [True] * len(pairs)
        features, _ = with_gradients(
            model, lambda engine, pairs=pairs: engine.features(pairs, Projector(Projection(dim=8, kind="rademacher")))
        )
        assert features.shape == (len(pairs), 8)
        assert cost.flop == 0


def test_products_and_norms_are_of_what_is_collected() -> None:
    def work(engine: Gradients) -> tuple[Any, ...]:
        return (
            engine.collect(PAIRS),
            engine.products(PAIRS, engine.collect(PAIRS[1:3])),
            engine.norms(PAIRS, "lora_all"),
        )

    (collected, (products, squares), norms), _ = with_gradients(adapted_model(), work)
    whole = np.concatenate([*collected.values()], axis=1).astype(np.float64)
    np.testing.assert_allclose(products, whole @ whole[1:3].T, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(squares, (whole**2).sum(1), rtol=1e-5)
    np.testing.assert_allclose(norms**2, squares, rtol=1e-5)
    assert products.dtype == squares.dtype == np.float64


@pytest.mark.parametrize("lot", [1, 2, 100])
@pytest.mark.parametrize("kind", ["sketch", "rademacher"])
def test_features_are_projections_of_what_is_collected(kind: Any, lot: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted_model()
    size = wanted(model, "lora_all").size
    assert size == sum(p.numel() for name, p in model.named_parameters() if is_lora(name))
    monkeypatch.setattr(module, "ENTRIES_TOGETHER", lot * size)
    projector = Projector(Projection(dim=64, kind=kind, seed=2))
    found, _ = with_gradients(model, lambda engine: engine.features(PAIRS, projector))
    collected, _ = with_gradients(model, lambda engine: engine.collect(PAIRS))
    expected = sum(projector.project(name, torch.from_numpy(rows)).numpy() for name, rows in collected.items())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert found.dtype == np.float32


@pytest.mark.parametrize("form", ["textbook", "published"])
def test_features_of_adams_directions(form: Any, tmp_path: Path) -> None:
    model = adapted_model()
    collected, _ = with_gradients(model, lambda engine: engine.collect(PAIRS))
    moments = saved_moments(model, tmp_path / "moments.safetensors")
    adam, projector = Adam(tmp_path / "moments.safetensors", 7, form), Projector(Projection(dim=4096))
    found, _ = with_gradients(model, lambda engine: engine.features(PAIRS, projector, Directions(adam)))
    expected = np.zeros_like(found)
    for name, rows in collected.items():
        first, second = (moments[f"{name}.{moment}"].flatten() for moment in ("exp_avg", "exp_avg_sq"))
        directions = adam_direction(torch.from_numpy(rows), first, second, 7, form)
        expected += projector.project(name, directions).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    missing = next(iter(collected))
    save_file({k: v for k, v in moments.items() if not k.startswith(missing)}, tmp_path / "moments.safetensors")
    with pytest.raises(UserError, match=f"moments of {missing} can't be read"):
        with_gradients(model, lambda engine: engine.features(PAIRS, projector, Directions(adam)))


def test_adapters_at_their_start() -> None:
    """B is 0, so that A has no gradient."""
    model = adapted_model()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    found, _ = with_gradients(model, lambda engine: engine.collect(PAIRS))
    for name, rows in found.items():
        assert (np.abs(rows).max() == 0) == ("lora_A" in name)


def test_half_precision_as_in_a_run(tmp_path: Path) -> None:
    """Loaded from folders: the model's weights are bfloat16, and PEFT keeps the adapters' in float32."""
    model = adapted_model()
    model.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    plain_model("llama").save_pretrained(tmp_path / "base")
    exact, _ = with_gradients(model, lambda engine: engine.collect(PAIRS))
    lm = LM(name="tiny", source=str(tmp_path / "base"), dtype="bfloat16", device="cpu", max_length=64)
    half = load_model(lm, tmp_path / "adapter", merge=False)
    weights = dict(half.named_parameters())
    assert {weight.dtype for name, weight in weights.items() if is_lora(name)} == {torch.float32}
    assert {weight.dtype for name, weight in weights.items() if not is_lora(name)} == {torch.bfloat16}
    rounded, _ = with_gradients(half, lambda engine: engine.collect(PAIRS))
    assert rounded.keys() == exact.keys()
    for row in range(len(PAIRS)):
        one, other = (np.concatenate([of[name][row] for name in exact]) for of in (exact, rounded))
        assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.97


def test_cost() -> None:
    model = adapted_model()
    shape = Shape.of(model)
    lengths, responses = [pair.length for pair in PAIRS], sum(len(pair.response) for pair in PAIRS)
    forward = shape.forward(lengths, responses)
    head = shape.forward([], responses)
    flop = {
        "lora_all": 2 * forward,
        "last_v": forward + (forward - head) / 2 + head,
        "last_v_lora_b": forward + (forward - head) / 2 + head,
        "lm_head": forward,
    }
    for part, wanted_flop in flop.items():
        _, cost = with_gradients(model, lambda engine, part=part: engine.norms([*PAIRS, None], part))
        assert cost.flop == pytest.approx(wanted_flop)
        assert (cost.forward_tokens, cost.forward_calls) == (TOKENS, len(PAIRS))
        passed = part != "lm_head"
        assert (cost.backward_tokens, cost.backward_calls) == (TOKENS * passed, len(PAIRS) * passed)
        assert "warmup" in cost.apart


@pytest.mark.parametrize(("kind", "charged"), [("sketch", False), ("rademacher", True)])
def test_a_dense_projection_is_charged(kind: Any, charged: bool) -> None:
    """2 FLOP for each entry of the projection and row. A sketch adds up each coordinate once."""
    model = adapted_model()
    _, alone = with_gradients(model, lambda engine: engine.norms(PAIRS, "lora_all"))
    projector = Projector(Projection(dim=64, kind=kind))
    _, cost = with_gradients(model, lambda engine: engine.features([*PAIRS, None], projector))
    size = sum(p.numel() for name, p in model.named_parameters() if is_lora(name))
    assert cost.flop - alone.flop == pytest.approx(charged * 2 * size * 64 * len(PAIRS))


def test_what_is_drawn_and_read_is_kept_for_later_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted_model()
    saved_moments(model, tmp_path / "moments.safetensors")
    projector = Projector(Projection(dim=64))
    directions = Directions(Adam(tmp_path / "moments.safetensors", 7, "textbook"))
    drawn: list[str] = []
    real = Projector._drawn

    def counting(self: Projector, parameter: str, size: int, device: torch.device) -> Any:
        drawn.append(parameter)
        return real(self, parameter, size, device)

    monkeypatch.setattr(Projector, "_drawn", counting)
    first, _ = with_gradients(model, lambda engine: engine.features(PAIRS[:2], projector, directions))
    (tmp_path / "moments.safetensors").unlink()
    again, _ = with_gradients(model, lambda engine: engine.features(PAIRS[:2], projector, directions))
    np.testing.assert_array_equal(first, again)
    assert len(drawn) == len(set(drawn)) == 28


def test_nothing_goes_further_back_than_is_wanted() -> None:
    model = adapted_model()
    needing: dict[int, bool] = {}
    for number, layer in enumerate(model.get_decoder().layers):
        layer.register_forward_hook(
            lambda layer, args, output, number=number: needing.update({number: output.requires_grad})
        )
    with_gradients(model, lambda engine: engine.norms(PAIRS, "last_v"))
    assert needing == {0: False, 1: True}
    with_gradients(model, lambda engine: engine.norms(PAIRS, "lora_all"))
    assert needing == {0: True, 1: True}


def test_the_model_is_left_without_hooks_and_gradients() -> None:
    model = adapted_model()
    before, _ = with_gradients(model, lambda engine: engine.norms(PAIRS, "lora_all"))

    def fail(name: str, factors: Factors) -> None:
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        backward(model, PAIRS, wanted(model, "lora_all"), fail)
    for one in model.modules():
        assert not one._forward_hooks
        assert not one._forward_pre_hooks
        assert "forward" not in vars(one) or one is model
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())
    after, _ = with_gradients(model, lambda engine: engine.norms(PAIRS, "lora_all"))
    np.testing.assert_array_equal(before, after)


def test_a_layer_that_is_applied_twice_is_refused() -> None:
    model = adapted_model()
    layers = model.get_decoder().layers
    layers[1].self_attn.q_proj.lora_B["default"] = layers[0].self_attn.q_proj.lora_B["default"]
    with pytest.raises(RuntimeError, match="applied more than once"):
        with_gradients(model, lambda engine: engine.norms(PAIRS, "lora_all"))


def test_a_layer_that_is_not_reached_is_no_zero() -> None:
    model = plain_model("llama").requires_grad_(False)
    layers = {"unused.weight": torch.nn.Linear(2, 2), **wanted(model, "last_v").layers}
    with pytest.raises(RuntimeError, match=r"no gradient reached unused.weight and 0 more"):
        backward(model, PAIRS, Wanted(layers, 1), lambda name, factors: None)


def test_parts_that_a_model_lacks() -> None:
    model = plain_model("llama")
    for part in ("lora_all", "last_v_lora_b"):
        with pytest.raises(UserError, match=f"llama model without layers for '{part}' gradients"):
            with_gradients(model, lambda engine, part=part: engine.norms(PAIRS, part))


def test_an_architecture_without_a_value_projection_is_known_beforehand() -> None:
    """Phi-3 has one weight for queries, keys and values."""
    check_last_v(plain_model("llama").config)
    sizes = {"vocab_size": 90, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "pad_token_id": 0}
    with pytest.raises(UserError, match="phi3 model without layers for 'last_v' gradients"):
        check_last_v(Phi3Config(**sizes, num_attention_heads=4, num_key_value_heads=2))


def test_experts_are_refused() -> None:
    """Their layers see the tokens of all rows in one list."""

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.v_proj = torch.nn.Linear(32, 16, bias=False)

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.v_proj(hidden.flatten(0, 1)).view(*hidden.shape[:-1], -1)

    model = plain_model("llama")
    model.get_decoder().layers[1].self_attn.v_proj = Flat()
    with pytest.raises(UserError, match="does not see every token of a row by itself"):
        with_gradients(model, lambda engine: engine.norms(PAIRS, "last_v"))


def test_against_other_adapters() -> None:
    with pytest.raises(ValueError, match="against: must hold the 28 adapters"):
        with_gradients(adapted_model(), lambda engine: engine.products(PAIRS, {"w": np.zeros((1, 3))}))


def test_rows_are_batches_of_their_own_on_a_cpu() -> None:
    assert budgets("cpu", 4096) == (0, 0)
    assert budgets("cuda", 4096) == (4096, 1024)
