"""Gumbel keys: by hand, and draws in proportion to the weights."""

import numpy as np
import pytest

from dwbench.rules.gumbel import gumbel_keys


def test_by_hand() -> None:
    uniform = np.exp([-1, -np.exp(-1), -1])
    np.testing.assert_allclose(gumbel_keys(np.array([0.0, 0, 2]), uniform), [0, 1, 2], atol=1e-12)


def test_a_weight_of_zero_and_the_ends_of_the_uniform_numbers() -> None:
    keys = gumbel_keys(np.array([-np.inf, 0.0, 0.0]), np.array([0.5, 0.0, 1 - 2**-53]))
    assert keys[0] == -np.inf
    assert np.isfinite(keys[1:]).all()
    assert keys[1] < keys[2]


def test_each_next_one_in_proportion_to_its_weight_among_those_left() -> None:
    weights = np.array([0.5, 0.3, 0.2])
    drawn = np.random.default_rng(0).random((40_000, 3))
    order = np.argsort(-gumbel_keys(np.log(weights), drawn), axis=1)
    first = np.bincount(order[:, 0]) / len(order)
    np.testing.assert_allclose(first, weights, atol=0.01)
    second = order[order[:, 0] == 0, 1]
    assert (second == 1).mean() == pytest.approx(0.6, abs=0.015)
