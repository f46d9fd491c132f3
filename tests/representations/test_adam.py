"""Adam's direction: hand cases, the official code's numbers, an optimizer that goes on, and moments by name."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dwbench.errors import UserError
from dwbench.representations.adam import Adam, Directions, adam_direction


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def test_by_hand() -> None:
    """Far behind the start no bias is left to correct."""
    found = adam_direction(vector(1, -1)[None], vector(0.1, 0), vector(0.04, 0), 10**6, "textbook")
    np.testing.assert_allclose(found, [[0.93880, -3.16228]], rtol=1e-5)


def test_epsilon_inside_the_root_outweighs_the_moments_of_lora() -> None:
    gradient, first, second = vector(1e-7)[None], vector(0), vector(1e-14)
    published = adam_direction(gradient, first, second, 10**6, "published")
    np.testing.assert_allclose(published, [[1e-4]], rtol=1e-3)
    textbook = adam_direction(gradient, first, second, 10**6, "textbook")
    np.testing.assert_allclose(textbook, [[0.0909]], rtol=1e-3)


def test_the_first_step_is_the_sign() -> None:
    gradients = vector(0.3, -2e-5, 7)
    found = adam_direction(gradients[None], torch.zeros(3), torch.zeros(3), 0, "textbook")
    np.testing.assert_allclose(found, [[1, -1, 1]], rtol=1e-3)
    assert adam_direction(torch.zeros(1, 3), torch.zeros(3), torch.zeros(3), 0, "textbook").tolist() == [[0, 0, 0]]


def test_it_is_the_step_that_torch_takes_next(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(4, 3))
    optimizer = torch.optim.Adam([weight], lr=1.0)
    for _ in range(5):
        weight.grad = torch.randn(4, 3, generator=generator)
        optimizer.step()
    state = optimizer.state[weight]
    path = tmp_path / "moments.safetensors"
    save_file({f"w.{name}": state[name].clone() for name in ("exp_avg", "exp_avg_sq")}, path)
    before, gradient = weight.detach().clone(), torch.randn(4, 3, generator=generator)
    weight.grad = gradient
    optimizer.step()
    found = Directions(Adam(path, 5, "textbook")).of("w", gradient.flatten()[None])
    torch.testing.assert_close(found[0].view(4, 3), before - weight.detach(), rtol=1e-5, atol=1e-6)


def test_samples_do_not_mix() -> None:
    gradients = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    first, second = gradients[0] / 2, gradients[1].square()
    for form in ("textbook", "published"):
        whole = adam_direction(gradients, first, second, 3, form)
        assert torch.equal(whole[2:3], adam_direction(gradients[2:3], first, second, 3, form))


@pytest.mark.parametrize("case", ["a_ordinary_sizes", "b_lora_sizes"])
def test_golden(case: str, shared: Path) -> None:
    path = shared / "golden" / "rules" / "less_adam" / f"case_{case}.json"
    if not path.is_file():
        pytest.skip(f"no golden vectors: {path}")
    data = json.loads(path.read_text(encoding="utf-8"))
    gradient, first, second = (
        torch.tensor(data["inputs"][name]["value"], dtype=torch.float32)
        for name in ("gradient", "first_moment", "second_moment")
    )
    step = data["parameters"]["steps_done_plus_one_for_textbook_form"] - 1
    published = np.array(data["expected"]["gamma_official"]["value"])
    found = adam_direction(gradient[None], first, second, step, "published")[0].double().numpy()
    np.testing.assert_allclose(found, published, rtol=0, atol=1e-5 * np.abs(published).max())
    textbook = adam_direction(gradient[None], first, second, step, "textbook")[0].double().numpy()
    # In one coordinate moment and gradient cancel but for less than 1 %: float32 has fewer digits of it.
    np.testing.assert_allclose(textbook, data["expected"]["gamma_textbook"]["value"], rtol=1e-5, atol=1e-6)


def test_moments_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "moments.safetensors"
    save_file({"a.exp_avg": torch.ones(2), "a.exp_avg_sq": torch.ones(2), "b.exp_avg": torch.ones(2)}, path)
    directions = Directions(Adam(path, 1, "published"))
    gradients = torch.zeros(1, 2)
    np.testing.assert_allclose(directions.of("a", gradients), [[0.9 / 0.999**0.5] * 2], rtol=1e-5)
    path.unlink()
    directions.of("a", gradients)  # read once
    with pytest.raises(UserError, match=r"moments.safetensors: Adam's moments of b can't be read"):
        directions.of("b", gradients)


def test_a_parameter_without_moments(tmp_path: Path) -> None:
    path = tmp_path / "moments.safetensors"
    save_file({"a.exp_avg": torch.ones(2), "a.exp_avg_sq": torch.ones(2), "b.exp_avg": torch.ones(2)}, path)
    directions = Directions(Adam(path, 1, "published"))
    for name in ("b", "c"):
        with pytest.raises(UserError, match=rf"moments of {name} can't be read"):
            directions.of(name, torch.zeros(1, 2))


def test_a_step_that_means_nothing() -> None:
    with pytest.raises(ValueError, match="step: must not be negative"):
        Adam(Path("moments"), -1, "textbook")
