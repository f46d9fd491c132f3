"""Projections: inner products are kept, bits are pinned, samples and parameters don't mix."""

import numpy as np
import pytest
import torch

from dwbench.representations import projection as module
from dwbench.representations.projection import Projection, Projector

KINDS = ["sketch", "rademacher"]


def normal(rows: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, size)).astype(np.float32))


def projected(projection: Projection, gradients: torch.Tensor, parameter: str = "w") -> torch.Tensor:
    return Projector(projection).project(parameter, gradients)


def cosines(rows: torch.Tensor) -> np.ndarray:
    unit = rows / rows.norm(dim=1, keepdim=True)
    return np.asarray((unit @ unit.T)[np.triu_indices(len(rows), 1)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dim", "size"), [(64, 5000), (256, 5000), (256, 256 * 7)])
def test_cosines_are_kept(kind: str, dim: int, size: int) -> None:
    """Of random pairs, and of pairs with much in common."""
    gradients = normal(24, size)
    gradients[12:] += 2 * gradients[:12]
    found = cosines(projected(Projection(dim=dim, kind=kind), gradients))
    assert np.abs(found - cosines(gradients)).mean() < 2 / dim**0.5


@pytest.mark.parametrize("kind", KINDS)
def test_inner_products_are_unbiased(kind: str) -> None:
    """Also of vectors with a few large coordinates, and with no more variance than a dense projection's."""
    pair = normal(2, 50)
    pair[:, ::10] *= 20
    wanted = float(pair[0] @ pair[1])
    dim, draws = 8, 1500
    found = []
    for seed in range(draws):
        a, b = projected(Projection(dim=dim, kind=kind, seed=seed), pair)
        found.append(float(a @ b))
    a, b = pair.double().numpy()
    variance = ((a @ a) * (b @ b) + (a @ b) ** 2 - 2 * (a**2 @ b**2)) / dim
    assert abs(np.mean(found) - wanted) < 4 * (variance / draws) ** 0.5
    assert np.var(found) < 1.2 * variance
    assert np.var(found) > 0.2 * variance


def test_what_fits_keeps_its_inner_products_exactly() -> None:
    gradients = normal(3, 60)
    found = projected(Projection(dim=64), gradients)
    torch.testing.assert_close(found @ found.T, gradients @ gradients.T)


@pytest.mark.parametrize("kind", KINDS)
def test_bits_depend_on_seed_and_parameter_alone(kind: str) -> None:
    gradients = normal(3, 100)
    first = projected(Projection(dim=16, kind=kind), gradients)
    assert torch.equal(first, projected(Projection(dim=16, kind=kind), gradients))
    assert not torch.allclose(first, projected(Projection(dim=16, kind=kind, seed=1), gradients))
    assert not torch.allclose(first, projected(Projection(dim=16, kind=kind), gradients, "v"))
    projector = Projector(Projection(dim=16, kind=kind))
    projector.project("v", gradients)  # what was asked for before does not matter
    assert torch.equal(first, projector.project("w", gradients))


def test_every_projection_has_a_name_of_its_own() -> None:
    names = {Projector(Projection(kind=kind, seed=seed)).name for kind in ("sketch", "rademacher") for seed in (0, 1)}
    assert len(names) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_samples_do_not_mix(kind: str) -> None:
    gradients = normal(5, 1000)
    whole = projected(Projection(dim=32, kind=kind), gradients)
    for row in range(5):
        alone = projected(Projection(dim=32, kind=kind), gradients[row : row + 1])
        torch.testing.assert_close(alone[0], whole[row], rtol=1e-5, atol=1e-5)
    spoilt = gradients.clone()
    spoilt[2] = torch.nan
    found = projected(Projection(dim=32, kind=kind), spoilt)
    assert found.isnan().all(dim=1).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_linear(kind: str) -> None:
    gradients = normal(2, 333)
    found = projected(Projection(dim=16, kind=kind), torch.stack([*gradients, 3 * gradients[0] - gradients[1]]))
    torch.testing.assert_close(found[2], 3 * found[0] - found[1], rtol=1e-5, atol=1e-5)


def test_dense_signs_come_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lot has signs of its own, all of one size."""
    monkeypatch.setattr(module, "SIGNS_AT_ONCE", 24)
    rows = projected(Projection(dim=8, kind="rademacher"), torch.eye(10))
    np.testing.assert_allclose(rows.abs(), 1 / 8**0.5, rtol=1e-6)
    assert len(np.unique(rows.numpy(), axis=0)) > 7


def test_a_sketch_is_one_signed_permutation_a_block() -> None:
    rows = projected(Projection(dim=4), torch.eye(10))
    assert (rows != 0).sum(dim=1).tolist() == [1] * 10
    assert set(rows[rows != 0].tolist()) == {-1.0, 1.0}
    for block in (rows[:4], rows[4:8]):
        assert (block != 0).sum(dim=0).tolist() == [1] * 4


def test_bits_are_pinned() -> None:
    """Stored features are comparable only while these numbers stay; else the version of what stores them goes up."""
    found = projected(Projection(dim=4), torch.arange(1, 11.0)[None], "base.lora_A.default.weight")
    assert found.tolist() == [[4.0, -2.0, -21.0, 18.0]]
    dense = projected(Projection(dim=4, kind="rademacher"), torch.arange(1, 11.0)[None], "base.lora_A.default.weight")
    assert dense.tolist() == [[3.5, 0.5, 1.5, 20.5]]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_has_the_same_bits(kind: str) -> None:
    gradients = normal(3, 5000)
    found = Projector(Projection(dim=64, kind=kind)).project("w", gradients.cuda())
    torch.testing.assert_close(found.cpu(), projected(Projection(dim=64, kind=kind), gradients), rtol=1e-4, atol=1e-3)


def test_a_dimension_that_means_nothing() -> None:
    with pytest.raises(ValueError, match="dim: must be at least 1"):
        Projection(dim=0)
