from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwbench.data.base import RawRow, Splits, content_key
from dwbench.data.splitting import Sizes, check_disjoint, hold_out, make_splits, subsample, without
from dwbench.errors import UserError


def rows(texts: Sequence[str], name: str = "f") -> list[RawRow]:
    return [RawRow(id=f"{text}#{n}", input=text, response="r", where=f"{name}:{n}") for n, text in enumerate(texts)]


def inputs(drawn: Sequence[RawRow]) -> list[str]:
    return [row.input for row in drawn]


POOL = rows([f"q{n}" for n in range(40)])


def test_a_draw_keeps_the_order_and_grows_by_adding() -> None:
    some, more = subsample(POOL, 10, 0, "pool"), subsample(POOL, 20, 0, "pool")
    assert [POOL.index(row) for row in some] == sorted(POOL.index(row) for row in some)
    assert len(some) == 10
    assert set(inputs(some)) < set(inputs(more))
    assert inputs(subsample(POOL, None, 0, "pool")) == inputs(POOL)
    assert inputs(some) != inputs(subsample(POOL, 10, 1, "pool")) != inputs(subsample(POOL, 10, 1, "test"))


@settings(deadline=None)  # a busy machine is no failure
@given(st.permutations(POOL), st.integers(0, 3))
def test_the_order_of_rows_does_not_matter(shuffled: list[RawRow], seed: int) -> None:
    assert set(inputs(subsample(shuffled, 7, seed, "pool"))) == set(inputs(subsample(POOL, 7, seed, "pool")))
    one, other = hold_out(shuffled, 7, seed, "test"), hold_out(POOL, 7, seed, "test")
    assert set(inputs(one.held)) == set(inputs(other.held))
    assert set(inputs(one.rest)) == set(inputs(other.rest))


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.lists(st.sampled_from(["a", "A ", "b", "c", "d", "e"]), min_size=1),
    st.integers(0, 4),
    st.integers(0, 3),
)
def test_held_out_rows_take_their_copies_along(texts: list[str], count: int, seed: int) -> None:
    pool = rows(texts)
    different = len({content_key(text) for text in texts})
    if count >= different and count:
        with pytest.raises(UserError, match=f"dataset.test_rows={count}: to be held out of {different} rows"):
            hold_out(pool, count, seed, "test")
        return
    out = hold_out(pool, count, seed, "test")
    assert len(out.held) == count == len({content_key(row.input) for row in out.held})
    assert not without(out.copies, out.held)
    assert without(out.rest, out.held) == out.rest
    assert sorted(row.id for row in [*out.held, *out.rest, *out.copies]) == sorted(row.id for row in pool)


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(UserError, match=r"^dataset\.pool_rows=41: there are only 40: lower it"):
        subsample(POOL, 41, 0, "pool")


def test_a_duplicate_id_is_refused_even_if_not_drawn() -> None:
    twins = [*POOL, RawRow(id="q0#0", input="other", response="r", where="f:99")]
    with pytest.raises(UserError, match=r"f:99: id 'q0#0' is also that of f:0"):
        make_splits(twins, None, rows(["other"], "test"), Sizes(1, 0, None), 0)


def test_overlaps_are_left_out_and_counted() -> None:
    target, test = rows(["q1", "t1", "x"], "target"), rows(["q0", "X"], "test")
    splits = make_splits(POOL, target, test, Sizes(None, None, None), 0)
    assert (len(splits.pool), len(splits.target), len(splits.test)) == (38, 2, 2)
    assert splits.notes == (
        "pool: 1 row left out, also in the test set",
        "target: 1 row left out, also in the test set",
        "pool: 1 row left out, also in the target set",
    )


def test_the_pool_does_not_depend_on_how_much_of_the_test_set_is_used() -> None:
    test = rows(["q0", "q1", "q2"], "test")
    for count in (0, 1, 3):
        assert len(make_splits(POOL, None, test, Sizes(None, 5, count), 0).pool) == 32


def test_holding_out_is_noted_with_copies() -> None:
    pool = rows([f"q{n}" for n in range(6)] * 2)
    splits = make_splits(pool, None, None, Sizes(None, 2, 1), 3)
    assert (len(splits.pool), len(splits.target), len(splits.test)) == (6, 2, 1)
    assert splits.notes == (
        "test: 1 row held out of 12 by seed 3; 1 row with the same inputs left out",
        "target: 2 rows held out of 10 by seed 3; 2 rows with the same inputs left out",
    )


def test_shared_inputs_are_named_with_their_places() -> None:
    with pytest.raises(
        UserError, match=r"^b:1: target row 'q3#1' is also in the pool \(f:3, id 'q3#3'\), as are 2 of 3"
    ):
        check_disjoint("target", rows(["y", "q3", "Q4 "], "b"), "pool", POOL)
    check_disjoint("target", rows(["y"], "b"), "pool", POOL)


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=4), st.lists(st.sampled_from("ghijk")),
    st.lists(st.sampled_from("hijklm")), st.integers(0, 2),
)  # fmt: skip
def test_splits_are_always_disjoint(pool: list[str], target: list[str], test: list[str], seed: int) -> None:
    try:
        splits = make_splits(rows(pool), rows(target), rows(test), Sizes(None, None, None), seed)
    except UserError:
        assert set(pool) <= {*target, *test}  # nothing is left of the pool
        return
    # Splits checks it once more, by itself.
    Splits(pool=splits.pool, target=splits.target, test=splits.test)
    kept = {name: {row.input for row in getattr(splits, name)} for name in ("pool", "target", "test")}
    for one, other in (("pool", "test"), ("pool", "target"), ("target", "test")):
        assert not kept[one] & kept[other]
