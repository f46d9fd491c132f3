"""GIST: against whole gradients, its subspace and norms, and what it costs."""

import dataclasses
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import TOO_LONG, TRAINING, examples, material, splits

from dwbench.contract import Scored, Trial, check_selector
from dwbench.cost import Cost
from dwbench.models.spec import LM
from dwbench.selectors import context as context_module
from dwbench.selectors import gradients
from dwbench.selectors.context import Context
from dwbench.selectors.gist import GIST, coordinates_in, cosines
from dwbench.selectors.losses import NO_RESPONSE
from dwbench.selectors.material import Material
from dwbench.selectors.models import LoadedModels
from dwbench.store import Bench, Store


def gist(**settings: Any) -> GIST:
    return GIST(**{"warmup_share": 0.5, "epochs": 2, **settings})


@pytest.fixture(scope="module")
def given(tiny_lm: LM) -> Material:
    return dataclasses.replace(material(tiny_lm), train=dataclasses.replace(TRAINING, batch_size=4))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Store(tmp_path_factory.mktemp("store")))


def score(selector: GIST, given: Material, models: LoadedModels, bench: Bench) -> Scored:
    return Trial(selector, given, models).score_in(bench, selector.needs)


@pytest.fixture(scope="module")
def whole(given: Material, models: LoadedModels, bench: Bench) -> tuple[np.ndarray, np.ndarray]:
    """Whole gradients of pool and target set at the last checkpoint, [rows, P] float64."""
    found: list[np.ndarray] = []

    def work(_: Path) -> None:
        context = Context(GIST().needs, bench, given, models)
        engine = context.gradients(gradients.warm_up(context, gradients.trainable(context), 0.5, 2)[-1])
        for rows in (context.pool, context.target):
            parts = engine.collect([context.chat.pair(context.task, row) for row in rows])
            found.append(np.concatenate([parts[name] for name in sorted(parts)], axis=1).astype(np.float64))

    bench.stage("test", {"attempt": uuid.uuid4().hex}, work)
    return found[0], found[1]


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def test_with_all_dimensions_it_is_the_cosine_with_the_mean_gradient(
    given: Material, models: LoadedModels, bench: Bench, whole: tuple[np.ndarray, np.ndarray]
) -> None:
    pool, target = whole
    found = score(gist(norm="full"), given, models, bench)
    np.testing.assert_allclose(found.scores.values, unit(pool) @ unit(target.mean(axis=0)), atol=1e-5)
    assert found.scores.notes["dimensions"] == 3


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("norm", ["subspace", "full"])
def test_as_by_singular_value_decomposition(
    dim: int, norm: str, given: Material, models: LoadedModels, bench: Bench, whole: tuple[np.ndarray, np.ndarray]
) -> None:
    pool, target = whole
    axes = np.linalg.svd(target, full_matrices=False)[2][:dim]
    inside, sought = pool @ axes.T, (target @ axes.T).mean(axis=0)
    lengths = np.linalg.norm(pool if norm == "full" else inside, axis=1)
    found = score(gist(target_dim=dim, norm=norm), given, models, bench)
    np.testing.assert_allclose(found.scores.values, inside @ unit(sought) / lengths, atol=1e-4)
    assert found.scores.notes["dimensions"] == dim
    held = np.nanmean(np.linalg.norm(inside, axis=1) / np.linalg.norm(pool, axis=1))
    assert found.scores.notes["gradient_in_subspace_mean"] == pytest.approx(held, abs=1e-4)


def test_by_hand() -> None:
    """Target gradients on two axes of three; a row almost orthogonal to them counts fully, or next to nothing."""
    target = np.array([[2.0, 0, 0], [0, 1, 0]])
    rows = np.array([[1.0, 0.5, 0], [0.01, 0.005, 1], [0, -1, 0], [0, 0, 0]])
    weights = np.array([[0.5, 0], [0, 1]])  # U / S
    coordinates = coordinates_in(weights, rows @ target.T)
    np.testing.assert_allclose(coordinates, rows[:, :2])
    own = cosines(coordinates, target[:, :2], None)
    np.testing.assert_allclose(own, [1, 1, -0.447214, 0], atol=1e-6)
    full = cosines(coordinates, target[:, :2], np.linalg.norm(rows, axis=1))
    np.testing.assert_allclose(full, [1, 0.011180, -0.447214, 0], atol=1e-5)


def test_a_copy_of_the_only_target_row_comes_first(tiny_lm: LM, models: LoadedModels, tmp_path: Path) -> None:
    """With one target row the subspace is a line: by its own norm every row lies along it or against it."""
    copied = splits()
    target = tuple(row for row in copied.pool if row.id == "7")
    object.__setattr__(copied, "target", target)  # which no data set may have
    given = dataclasses.replace(material(tiny_lm, copied), train=dataclasses.replace(TRAINING, batch_size=4))
    bench = Bench(Store(tmp_path))
    found = score(gist(norm="full"), given, models, bench)
    assert found.choose(1, 0) == ["7"]
    assert np.nanmax(found.scores.values) == pytest.approx(1, abs=1e-5)
    line = score(gist(), given, models, bench).scores.values
    np.testing.assert_allclose(np.abs(line[~np.isnan(line)]), 1, atol=1e-6)


def test_a_row_without_a_response_is_invalid(given: Material, models: LoadedModels, bench: Bench) -> None:
    found = score(gist(), given, models, bench)
    reasons = dict(zip(found.ids, found.scores.reasons, strict=True))
    assert reasons == {id: NO_RESPONSE if id == TOO_LONG else "" for id in found.ids}
    assert np.isnan(found.scores.values).sum() == 1


@pytest.mark.parametrize("block", [512, 5])
def test_every_row_is_passed_once_and_the_warm_up_is_charged(
    block: int, tiny_lm: LM, models: LoadedModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_module, "ROWS_A_BLOCK", block)
    ten = examples(tuple((f"Notice {n} of the town.", f"Notice {n}") for n in range(10)))
    given = material(tiny_lm, dataclasses.replace(splits(), pool=ten))
    bench = Bench(Store(tmp_path))
    context = Context(GIST().needs, bench, given, models)
    stage = bench.stage("score", {}, lambda _: gist().score(context))
    used = bench.store.closure((stage.ref,))
    for name, calls in (("represent/", 13), ("train/", 10)):  # 10 rows + 3 of the target; 2 epochs x 5 rows
        cost = sum((artefact.cost for ref, artefact in used.items() if ref.startswith(name)), Cost())
        assert (cost.forward_calls, cost.backward_calls) == (calls, calls)
    stored = [ref for ref in used if ref.startswith("represent/")]
    assert len(stored) == 1 + -(-10 // block)


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"target_dim": 0}, "target_dim"), ({"warmup_share": 2}, "warmup_share"), ({"norm": "l1"}, "norm")],
)
def test_settings_that_mean_nothing(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        GIST(**settings)


def test_keeps_the_contract(given: Material, models: LoadedModels) -> None:
    check_selector(gist(epochs=1, target_dim=2), given, models)
