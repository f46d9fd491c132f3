"""Clusters, quotas and representatives."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwbench.rules.clusters import kmeans_labels, lowest_of_each, nearest_to_centres, quotas

NAN = float("nan")


def blobs() -> np.ndarray:
    """Three groups of 5, 10 and 20 points, far from each other."""
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [100, 0], [0, 100]])
    return np.repeat(centres, [5, 10, 20], axis=0) + rng.normal(size=(35, 2))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_separated_groups_are_found(seed: int) -> None:
    points = blobs()
    labels = kmeans_labels(points, 3, seed)
    assert labels.dtype == np.int64
    assert sorted(np.bincount(labels)) == [5, 10, 20]
    assert len({tuple(np.unique(part)) for part in np.split(labels, [5, 15])}) == 3
    np.testing.assert_array_equal(labels, kmeans_labels(points, 3, seed))


def test_global_random_state_has_no_part_in_it() -> None:
    points = np.random.default_rng(0).normal(size=(60, 4))
    np.random.seed(1)
    one = kmeans_labels(points, 8, 3)
    np.random.seed(2)
    np.testing.assert_array_equal(one, kmeans_labels(points, 8, 3))
    assert (one != kmeans_labels(points, 8, 4)).any()


def test_more_clusters_than_different_rows() -> None:
    points = np.repeat(np.eye(2, dtype=np.float32), 4, axis=0)
    points[1, 1] = -0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = kmeans_labels(points, 5, 0)
    assert sorted(np.bincount(labels)) == [4, 4]


@pytest.mark.parametrize("k", [0, 4])
def test_wrong_number_of_clusters(k: int) -> None:
    with pytest.raises(ValueError, match=f"{k} clusters of 3 rows"):
        kmeans_labels(np.eye(3), k, 0)


def test_hand_computed_quotas() -> None:
    # Shares 0.7, 1.4, 2.1, 2.8: whole parts 0, 1, 2, 2; the two left go to remainders 0.8 and 0.7.
    assert quotas(np.array([10, 20, 30, 40]), 7, np.zeros(4)).tolist() == [1, 1, 2, 3]
    assert quotas(np.array([4, 0, 4]), 4, np.zeros(3)).tolist() == [2, 0, 2]


def test_equal_remainders_go_by_the_tie_break() -> None:
    sizes = np.array([3, 3, 3, 3])
    assert quotas(sizes, 2, np.array([0.4, 0.1, 0.3, 0.2])).tolist() == [0, 1, 0, 1]
    assert quotas(sizes, 6, np.array([0.4, 0.1, 0.3, 0.2])).tolist() == [1, 2, 1, 2]


@settings(deadline=None, max_examples=200)
@given(sizes=st.lists(st.integers(0, 60), min_size=1, max_size=12), k=st.integers(0, 300))
def test_quotas_sum_to_k_and_stay_within_the_clusters(sizes: list[int], k: int) -> None:
    given_sizes = np.array(sizes)
    found = quotas(given_sizes, k, np.arange(len(sizes)))
    assert found.sum() == min(k, given_sizes.sum())
    assert (found >= 0).all()
    assert (found <= given_sizes).all()
    if k <= given_sizes.sum() and k:
        assert (np.abs(found - k * given_sizes / given_sizes.sum()) < 1).all()


def test_lowest_of_each_cluster() -> None:
    labels = np.array([2, 0, 2, 0, 0, 2, 1])
    values = np.array([5.0, 1.0, 4.0, NAN, 0.5, 4.0, NAN])
    counts = np.array([1, 1, 2])
    # Cluster 1 has only a NaN; in cluster 2 two rows have 4.
    assert np.flatnonzero(lowest_of_each(values, labels, counts, np.zeros(7))).tolist() == [2, 4, 5]
    by_tie = lowest_of_each(values, labels, np.array([0, 0, 1]), np.array([0, 0, 0.9, 0, 0, 0.1, 0]))
    assert np.flatnonzero(by_tie).tolist() == [5]
    assert np.flatnonzero(lowest_of_each(values, labels, np.array([9, 9, 9]), np.zeros(7))).tolist() == [0, 1, 2, 4, 5]
    assert not lowest_of_each(np.full(3, NAN), np.zeros(3, dtype=np.int64), np.array([2]), np.zeros(3)).any()


def test_nearest_to_the_mean_of_its_cluster() -> None:
    points = np.array([[0.0, 0], [4, 0], [5, 0], [10, 0], [10, 2], [10, 2]])
    # Means: (3, 0), of the other cluster (10, 4/3); cluster 1 is empty.
    assert nearest_to_centres(points, np.array([0, 0, 0, 2, 2, 2])).tolist() == [1, 4]
