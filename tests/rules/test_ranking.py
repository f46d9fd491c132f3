"""Order, tiers, ties, invalid rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwbench import seeds
from dwbench.rules.ranking import Scores, places, rank, scores

NAN = float("nan")


def plain(*preference: float, tier: list[int] | None = None) -> Scores:
    values = np.array(preference)
    return scores(values, values, ("",) * len(values), None if tier is None else np.array(tier))


def test_high_to_low_with_invalid_rows_last() -> None:
    given = plain(0.2, NAN, 0.9, -np.inf, 0.5)
    assert rank(given, 2, np.zeros(5)).order.tolist() == [2, 4, 0, 3, 1]
    assert given.reasons == ("", "not a number", "", "", "")


def test_tiers_go_before_scores() -> None:
    assert rank(plain(0.1, 0.9, 0.2, NAN, tier=[0, 1, 0, 0]), 2, np.zeros(4)).order.tolist() == [2, 0, 1, 3]


def test_ties_go_by_the_drawn_numbers_and_are_counted() -> None:
    given = plain(1, 2, 1, 1)
    found = rank(given, 2, np.array([0.9, 0.5, 0.1, 0.4]))
    assert found.order.tolist() == [1, 2, 3, 0]
    assert found.ties_at_cut == 3
    assert rank(given, 1, np.zeros(4)).ties_at_cut == 0
    assert rank(given, 4, np.zeros(4)).ties_at_cut == 0
    assert rank(given, 0, np.zeros(4)).ties_at_cut == 0


def test_equal_scores_in_two_tiers_are_no_tie() -> None:
    assert rank(plain(1, 1, tier=[0, 1]), 1, np.zeros(2)).ties_at_cut == 0
    assert rank(plain(0.0, NAN), 1, np.zeros(2)).ties_at_cut == 0


@pytest.mark.parametrize("k", [-1, 4])
def test_k_is_within_the_pool(k: int) -> None:
    with pytest.raises(ValueError, match=f"k = {k} of 3"):
        rank(plain(1, 2, 3), k, np.zeros(3))


def test_nan_needs_a_reason_and_lengths_agree() -> None:
    one = np.array([NAN])
    with pytest.raises(ValueError, match="row 0 has no score"):
        Scores(one, one, np.zeros(1, dtype=np.int64), ("",), {})
    with pytest.raises(ValueError, match="different lengths"):
        Scores(one, np.zeros(2), np.zeros(1, dtype=np.int64), ("x",), {})


preferences = st.lists(st.one_of(st.integers(0, 3).map(float), st.just(NAN)), min_size=1, max_size=20)


@given(preferences, st.randoms(use_true_random=False))
def test_choices_are_nested_and_follow_the_rows(values: list[float], random: object) -> None:
    """A smaller choice is a part of a larger one, and shuffled rows give the same choice."""
    uids = [f"row {n}" for n in range(len(values))]
    ties = seeds.draw(uids, 7, "ties")
    order = rank(plain(*values), len(values), ties).order
    assert sorted(order) == list(range(len(values)))
    for k in range(len(values) + 1):
        assert rank(plain(*values), k, ties).order[:k].tolist() == order[:k].tolist()
    shuffled = list(range(len(values)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other = rank(plain(*(values[n] for n in shuffled)), len(values), ties[shuffled]).order
    assert [shuffled[position] for position in other] == order.tolist()
    preference = np.array(values)[order]
    valid = preference[~np.isnan(preference)]
    assert not np.isnan(preference[: len(valid)]).any()
    assert (np.diff(valid) <= 0).all()


def test_places_share_ties_and_leave_out_what_is_invalid() -> None:
    found = Scores(
        values=np.zeros(6),
        preference=np.array([1.0, 3.0, 3.0, np.nan, 9.0, 1.0]),
        tier=np.array([0, 0, 0, 0, 1, 0]),
        reasons=("", "", "", "empty", "", ""),
        notes={},
    )
    np.testing.assert_array_equal(places(found), [3.5, 1.5, 1.5, np.nan, 5.0, 3.5])
