"""Numbers on the diversity of a set, by hand."""

import math

import numpy as np
import pytest

from dwbench.rules import diversity
from dwbench.rules.diversity import (
    VOCD_SIZES,
    diversity_report,
    exact_duplicates,
    facility_location_value,
    fit_d,
    mean_pairwise_distance,
    nearest_distances,
    partition_entropy,
    pool_profile,
    ratio_curve,
    type_token_ratio,
    vendi,
    vocd_d,
    words,
)

SQUARE = np.array([[1.0, 0], [0, 2], [-3, 0], [0, -1]])
SIZES = np.array(VOCD_SIZES, dtype=np.float64)


def test_nearest_distances() -> None:
    np.testing.assert_allclose(nearest_distances(np.array([[1.0, 0], [3, 0], [0, 1]])), [0, 0, 1], atol=1e-7)
    np.testing.assert_allclose(nearest_distances(SQUARE), [1] * 4, atol=1e-7)
    assert np.isnan(nearest_distances(SQUARE[:1])).all()


def test_mean_pairwise_distance() -> None:
    # Of 6 pairs, 4 are at distance 1 and 2 at 2.
    assert mean_pairwise_distance(SQUARE) == pytest.approx(8 / 6)
    assert mean_pairwise_distance(np.ones((5, 3))) == pytest.approx(0, abs=1e-6)
    assert math.isnan(mean_pairwise_distance(SQUARE[:1]))


def test_facility_location_value() -> None:
    assert facility_location_value(SQUARE, np.array([0])) == pytest.approx(1 / 4)
    diagonal = np.array([[1.0, 0], [1, 1], [-1, 0]])
    assert facility_location_value(diagonal, np.array([0])) == pytest.approx((1 + math.sqrt(0.5) + 0) / 3)
    assert facility_location_value(diagonal, np.array([0, 2])) == pytest.approx((2 + math.sqrt(0.5)) / 3)
    assert facility_location_value(SQUARE, np.arange(4)) == pytest.approx(1)


def test_partition_entropy() -> None:
    assert partition_entropy(np.array([3, 3, 3])) == 0
    assert partition_entropy(np.array([0, 1, 7, 7])) == pytest.approx(1.5 * math.log(2))


def test_vendi() -> None:
    assert vendi(np.ones((4, 3))) == pytest.approx(1)
    assert vendi(np.eye(5)) == pytest.approx(5)
    assert vendi(np.eye(5)[:3]) == pytest.approx(3)  # fewer rows than dimensions
    assert vendi(np.array([[1.0, 0], [2, 0], [0, 1], [0, 3]])) == pytest.approx(2)
    # Kernel [[1, 1/2], [1/2, 1]] / 2: eigenvalues 3/4 and 1/4.
    angle = np.array([[1.0, 0], [0.5, math.sqrt(0.75)]])
    assert vendi(angle) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


def test_words_and_their_ratio() -> None:
    tokens = words(["The cat, the mat.", "A CAT; café"])
    assert tokens.tolist() == [0, 1, 0, 2, 3, 1, 4]
    assert type_token_ratio(tokens) == pytest.approx(5 / 7)
    assert math.isnan(type_token_ratio(words(["!", ""])))


@pytest.mark.parametrize("d", [0.5, 10.0, 50.0, 120.0])
def test_fit_finds_the_curve(d: float) -> None:
    assert fit_d(ratio_curve(d, SIZES)) == pytest.approx(d, rel=1e-4)


def test_fit_is_least_squares() -> None:
    ratios = ratio_curve(40.0, SIZES) + np.where(np.arange(16) % 2, 0.01, -0.01)

    def squares(d: float) -> float:
        return float(((ratio_curve(d, SIZES) - ratios) ** 2).sum())

    best = fit_d(ratios)
    assert squares(best) < min(squares(best * 1.001), squares(best / 1.001), squares(40.0001))


def test_vocd_by_an_exact_expectation() -> None:
    """A sample of N of 100 types, ten times each, has 100 (1 - C(990, N) / C(1000, N)) types on average."""
    tokens = np.repeat(np.arange(100), 10)
    expected = [100 * (1 - math.comb(990, size) / math.comb(1000, size)) / size for size in VOCD_SIZES]
    assert vocd_d(tokens, seed=0) == pytest.approx(fit_d(np.array(expected)), rel=0.03)


def test_vocd_is_seeded_and_knows_its_limits() -> None:
    tokens = np.random.default_rng(5).integers(0, 300, 400)
    assert vocd_d(tokens, 1) == vocd_d(tokens, 1)
    assert vocd_d(tokens, 1) != vocd_d(tokens, 2)
    assert math.isnan(vocd_d(np.arange(49), 0))
    assert vocd_d(np.arange(50), 0) == pytest.approx(1e4, rel=1e-3)
    # One type: TTR is 1 / N.
    assert vocd_d(np.zeros(60, dtype=np.int64), 0) < 0.02


def test_exact_duplicates() -> None:
    assert exact_duplicates(["A b", "a  B\n", "c", "d"]) == 0.5
    assert exact_duplicates(["a", "b"]) == 0


def pool() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)


def test_report() -> None:
    vectors = pool()
    vectors[7] = vectors[3] + np.float32(0.01)
    profile = pool_profile(vectors, seed=0)
    assert len(np.unique(profile.cluster)) == 6
    chosen = np.array([3, 20, 7, 41])
    texts = ["One ferry is late. " * 10, "two", "Two ", "three"]
    report = diversity_report(vectors, profile, chosen, texts, np.array([4, 1, 1, 2]), seed=0)
    own = vectors[chosen]
    assert report["duplicates_near"] == 0.5
    assert report["duplicates_exact"] == 0.5
    assert report["nearest_distance_mean"] == pytest.approx(nearest_distances(own).mean())
    assert report["pairwise_distance_mean"] == pytest.approx(mean_pairwise_distance(own))
    assert report["ttr"] == pytest.approx(6 / 43)
    assert (report["tokens_mean"], report["tokens_median"]) == (2, 1.5)
    assert report["tokens_sd"] == pytest.approx(math.sqrt(1.5))
    assert 1 < report["vendi"] <= 4
    assert 0 < report["novelsum"] < report["novelsum_paper"]
    assert "vocd_d" not in report  # 43 tokens are too few
    assert all(isinstance(value, float) and math.isfinite(value) for value in report.values())


def test_report_does_not_depend_on_the_order_and_on_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = pool()
    profile = pool_profile(vectors, seed=0)
    chosen = np.arange(5, 40)
    texts = [f"row {number}" for number in chosen]
    one = diversity_report(vectors, profile, chosen, texts, chosen, seed=0)
    monkeypatch.setattr(diversity, "CHUNK", 4)
    other = diversity_report(vectors, profile, chosen[::-1], texts[::-1], chosen[::-1], seed=0)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert other[name] == pytest.approx(value, rel=0.1 if name == "vocd_d" else 1e-5), name


def test_report_on_one_row_and_on_none() -> None:
    vectors = pool()
    profile = pool_profile(vectors[:1], seed=0)
    report = diversity_report(vectors[:1], profile, np.array([0]), ["one"], np.array([3]), seed=0)
    assert report["novelsum"] == 0
    assert report["vendi"] == pytest.approx(1)
    assert report["duplicates_near"] == report["duplicates_exact"] == 0
    assert not {"nearest_distance_mean", "pairwise_distance_mean", "vocd_d"} & report.keys()
    with pytest.raises(ValueError, match="empty set"):
        diversity_report(vectors, profile, np.array([], dtype=np.int64), [], np.array([]), seed=0)
