"""Matching gradients: LESS's two rules by hand, by published numbers and by their properties; GIST's subspace."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scoring import golden

from dwbench.rules.matching import (
    Features,
    checkpoint_weights,
    direction_of_mean,
    each_row,
    matches,
    mean_direction,
    subspace,
    unit_rows,
)

ONE_SUBTASK = np.zeros(2, dtype=np.int64)
RATES = [1.6877e-5, 1.2859e-5, 0.7703e-5, 0.25616e-5]


def features(rows: Any, projection: str = "p") -> Features:
    return Features(np.array(rows, dtype=np.float32), projection)


def drawn(n: int, d: int, seed: int = 0) -> Features:
    return features(np.random.default_rng(seed).normal(size=(n, d)))


def test_published_scores(shared: Path) -> None:
    folder = shared / "golden" / "rules" / "less_matching"
    if not folder.is_dir():
        pytest.skip(f"no golden vectors: {folder}")
    data = json.loads((folder / "case_a.json").read_text())
    arrays = np.load(folder / "case_a.npz", allow_pickle=False)
    pool, target = arrays["in_train_features"], arrays["in_validation_features"]
    weights = checkpoint_weights(data["inputs"]["learning_rates"]["value"])
    sizes = data["parameters"]
    subtasks = np.repeat(np.arange(sizes["n_subtasks"]), sizes["validation_rows_per_subtask"])
    expected = data["expected"]

    def scored(rule: Any) -> np.ndarray:
        parts = [
            weight * matches(features(ours), rule(features(theirs), subtasks))
            for weight, ours, theirs in zip(weights, pool, target, strict=True)
        ]
        return np.asarray(np.sum(parts, axis=0))

    found = scored(mean_direction)
    np.testing.assert_allclose(found.max(axis=1), expected["scores"]["value"], atol=1e-5)
    assert found.argmax(axis=1).tolist() == expected["winning_subtask"]["value"]
    assert np.argsort(-found.max(axis=1))[: sizes["k"]].tolist() == expected["top_k"]["value"]
    paper = scored(direction_of_mean).max(axis=1)
    np.testing.assert_allclose(paper, expected["scores_mean_gradient_variant"]["value"], atol=1e-5)


def test_both_rules_on_gradients_of_a_real_model(shared: Path) -> None:
    """Its cosines and norms are given: rows with these inner products stand for the gradients."""
    expected = golden(shared, "less_cosine/case_main")["expected"]
    norms = np.array(expected["gradient_norm"])
    values, vectors = np.linalg.eigh(np.array(expected["cosine"]) * norms[:, None] * norms)
    gradients = vectors * np.sqrt(np.maximum(values, 0))
    target, pool = Features(gradients[expected["validation_rows"]], "p"), Features(unit_rows(gradients), "p")
    subtasks = np.zeros(3, dtype=np.int64)
    for rule, name in (
        (mean_direction, "score_mean_of_cosines"),
        (direction_of_mean, "score_cosine_with_mean_gradient"),
    ):
        np.testing.assert_allclose(matches(pool, rule(target, subtasks))[:, 0], expected[name], atol=1e-6)
    np.testing.assert_allclose(matches(pool, each_row(target)), np.array(expected["cosine"])[:, :3], atol=1e-6)


def test_by_hand() -> None:
    pool, target = features([[1, 0], [0, 1]]), features([[3, 0], [0, 1]])
    np.testing.assert_allclose(matches(pool, mean_direction(target, ONE_SUBTASK)), [[0.5], [0.5]])
    paper = matches(pool, direction_of_mean(target, ONE_SUBTASK))
    np.testing.assert_allclose(paper, [[0.948683], [0.316228]], atol=1e-6)
    np.testing.assert_allclose(matches(pool, each_row(target)), np.eye(2))
    apart = matches(pool, direction_of_mean(target, np.array([1, 0])))
    np.testing.assert_allclose(apart, [[0, 1], [1, 0]])


def test_a_gradient_of_nothing_and_one_that_is_unknown() -> None:
    rows = unit_rows(np.array([[0.0, 0], [np.nan, np.nan], [3, 4]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[0, 0], [np.nan, np.nan], [0.6, 0.8]])
    np.testing.assert_allclose(matches(Features(rows, "p"), features([[1, 0]])), [[0], [np.nan], [0.6]])


def test_tiny_gradients_have_a_direction() -> None:
    np.testing.assert_allclose(unit_rows(np.array([[3e-23, 4e-23]], dtype=np.float32)), [[0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("rule", [mean_direction, direction_of_mean])
def test_order_of_target_rows_and_length_of_a_gradient_do_not_matter(rule: Any) -> None:
    gradients, target = drawn(6, 5).rows, drawn(4, 5, seed=1)
    subtasks = np.array([0, 1, 0, 1])
    found = matches(Features(unit_rows(gradients), "p"), rule(target, subtasks))
    shuffled = [2, 3, 0, 1]
    again = rule(features(target.rows[shuffled]), subtasks[shuffled])
    gradients[3] *= 10
    np.testing.assert_allclose(matches(Features(unit_rows(gradients), "p"), again), found, rtol=1e-5)


def test_two_projections_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="projection one can't be matched with those of another"):
        matches(features([[1, 0]], "one"), each_row(features([[1, 0]], "another")))


def test_checkpoints_weigh_by_their_learning_rates() -> None:
    np.testing.assert_allclose(checkpoint_weights(RATES), [0.422, 0.321, 0.193, 0.064], atol=5e-4)
    np.testing.assert_allclose(checkpoint_weights([3e-7]), [1])  # whatever it is
    for wrong in ([0.0, 0.0], [1e-5, -1e-5], [float("nan")]):
        with pytest.raises(ValueError, match="rates"):
            checkpoint_weights(wrong)


def test_the_subspace_of_target_gradients() -> None:
    gradients = drawn(4, 30).rows.astype(np.float64)
    gram = gradients @ gradients.T
    found = subspace(gram, 10)
    basis = gradients.T @ found.weights
    np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(found.target, gradients @ basis, atol=1e-9)
    np.testing.assert_allclose(basis @ basis.T @ gradients.T, gradients.T, atol=1e-9)  # holds all of them
    two = subspace(gram, 2)
    assert two.target.shape == (4, 2)
    axes = np.linalg.svd(gradients, full_matrices=False)[2][:2]
    np.testing.assert_allclose(np.abs(axes @ gradients.T @ two.weights), np.eye(2), atol=1e-9)


def test_the_subspace_has_no_more_dimensions_than_the_gradients() -> None:
    rows = drawn(3, 20).rows
    copies = np.concatenate([rows, rows * np.float32(1 + 1e-7), rows[:1] * 2]).astype(np.float64)
    assert subspace(copies @ copies.T, 150).target.shape == (7, 3)
    assert subspace(np.array([[4.0]]), 150).target.shape == (1, 1)
    with pytest.raises(ValueError, match="all target gradients are 0"):
        subspace(np.zeros((2, 2)), 1)
