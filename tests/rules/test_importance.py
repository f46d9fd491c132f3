"""Hashed n-grams and log importance weights: by hand."""

import hashlib

import numpy as np
import pytest

from dwbench.rules.importance import EPSILON, hashed_ngrams, log_importance


def bucket(ngram: str) -> int:
    return int(hashlib.sha256(ngram.encode()).hexdigest(), 16) % 10_000


def test_words_and_pairs() -> None:
    expected = ["don", "'", "t", "stop", "...", "café", "don '", "' t", "t stop", "stop ...", "... café"]
    assert hashed_ngrams("Don't  STOP...\nCafé", 10_000).tolist() == [bucket(ngram) for ngram in expected]


@pytest.mark.parametrize(("text", "n"), [("", 0), (" \n", 0), ("one", 1), ("one two", 3), ("\ud800", 1)])
def test_short_texts(text: str, n: int) -> None:
    found = hashed_ngrams(text, 7)
    assert found.shape == (n,)
    assert found.dtype == np.int64
    assert ((found >= 0) & (found < 7)).all()


def rows(*given: list[int]) -> list[np.ndarray]:
    return [np.array(one, dtype=np.int64) for one in given]


def test_by_hand() -> None:
    """Frequencies of 2 and 3 fifths in the pool, and with smoothing of 3 and 2 fifths in the target."""
    found = log_importance(rows([0], [0, 1], [1, 1], []), rows([0, 0, 1]), 2, 1.0)
    np.testing.assert_allclose(found, np.array([1, 0, -2, 0]) * np.log(1.5), atol=1e-6)


def test_without_smoothing_what_the_target_lacks_weighs_most() -> None:
    found = log_importance(rows([0], [1]), rows([0]), 2, 0.0)
    np.testing.assert_allclose(found, [np.log(2), np.log(EPSILON) - np.log(0.5)], atol=1e-6)


def test_sets_without_any_word() -> None:
    np.testing.assert_array_equal(log_importance(rows([], []), rows([]), 5, 0.0), [0, 0])
    assert np.isfinite(log_importance(rows([3]), rows([]), 5, 0.0)).all()


def test_order_and_copies() -> None:
    generator = np.random.default_rng(0)
    pool = [generator.integers(0, 50, size) for size in generator.integers(1, 30, 40)]
    target = [generator.integers(0, 20, 30) for _ in range(3)]
    found = log_importance([*pool, pool[0]], target, 50, 1.0)
    assert found[-1] == found[0]
    backwards = log_importance([*pool, pool[0]][::-1], target[::-1], 50, 1.0)
    np.testing.assert_array_equal(backwards[::-1], found)
