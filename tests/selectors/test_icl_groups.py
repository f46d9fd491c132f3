"""Which rows share a prompt: every row once, no copies asked, nothing longer than the model takes."""

import dataclasses
import itertools
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import TASK, TOO_LONG, examples, splits

from dwbench.errors import UserError
from dwbench.models.chat import Chat
from dwbench.models.spec import LM
from dwbench.selectors.icl import ICLPrompt
from dwbench.selectors.icl_groups import Grouping, Shown, grouping, n_fitting, table
from dwbench.selectors.models import LoadedModels

FRAME = 10


def made(lengths: Sequence[int], room: int, n_d: int, n_q: int, keys: Sequence[str] = ()) -> Grouping:
    """Rows of given lengths, which take as much when they are shown as when they are asked, and prompts with a frame
    of 10 tokens."""

    def build(group: Sequence[int], asked: Sequence[int]) -> ICLPrompt:
        ends = np.cumsum([FRAME, *(lengths[row] for row in group)]).tolist()
        total = ends[-1] + sum(lengths[row] for row in asked)
        demos = tuple(itertools.pairwise(ends))
        return ICLPrompt(tuple(range(total)), (0, FRAME), demos, (ends[-1], total), ())

    own = keys or [str(row) for row in range(len(lengths))]
    shortest = np.argsort(lengths, kind="stable").tolist()
    return Grouping(n_d, n_q, own, own, shortest, frozenset(), room, build)


def test_shorter_rows_are_filled_up() -> None:
    assert table([(4, 0), (), (2,)], 2).tolist() == [[4, 0], [-1, -1], [2, -1]]


def groups(shown: Sequence[Shown]) -> list[list[int]]:
    return [list(one.group) for one in shown]


def members(shown: Sequence[Shown]) -> list[int]:
    return [row for one in shown for row in one.group]


def test_leading_demonstrations_that_fit() -> None:
    prompt = made([5, 6, 7, 1], 99, 3, 1).build([0, 1, 2], [3])
    assert [n_fitting(prompt, room) for room in (29, 28, 22, 21, 16, 15, 11, 10)] == [3, 2, 2, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(("n", "n_d", "n_q"), [(11, 3, 2), (10, 5, 5), (7, 3, 4), (12, 5, 7)])
def test_where_all_fits(n: int, n_d: int, n_q: int) -> None:
    order = np.random.default_rng(n).permutation(n).tolist()
    shown = made([1] * n, 1000, n_d, n_q).cut_up(order, order[::-1])
    assert members(shown) == order
    assert [len(one.group) for one in shown[:-1]] == [n_d] * (len(shown) - 1)
    asked_of_all: list[int] = []
    for one in shown:
        assert len(set(one.asked)) == n_q
        assert not set(one.asked) & set(one.group)
        asked_of_all += one.asked
    if len(asked_of_all) >= 2 * n:
        assert set(asked_of_all) == set(range(n))


def test_queries_take_turns() -> None:
    shown = made([1] * 8, 1000, 2, 3).cut_up([0, 1, 2, 3], range(8))
    assert [one.asked for one in shown] == [(2, 3, 4), (5, 6, 7)]
    shown = made([1] * 8, 1000, 2, 3).cut_up([0, 1, 2, 3, 4, 5], range(8))
    assert [one.asked for one in shown][2] == (0, 1, 2)


def test_copies_are_not_asked() -> None:
    layout = made([1] * 6, 1000, 2, 2, keys="aabbcc")
    shown = layout.cut_up([0, 2, 4, 1, 3, 5], range(6))
    assert groups(shown) == [[0, 2], [4, 1], [3, 5]]
    assert [one.asked for one in shown] == [(4, 5), (2, 3), (0, 1)]


def test_a_group_is_shortened_before_a_query_is_given_up() -> None:
    # Behind 0 and 4 there is only one row that is no copy; behind 0 alone there are two.
    shown = made([1] * 6, 1000, 2, 2, keys="aaaabc").cut_up([0, 4, 5, 1, 2, 3], range(6))
    assert groups(shown) == [[0], [4, 5], [1, 2], [3]]
    assert [one.asked for one in shown] == [(4, 5), (0, 1), (4, 5), (4, 5)]


def test_fewer_queries_where_there_are_no_more() -> None:
    shown = made([1] * 5, 1000, 3, 2, keys="aaaab").cut_up(range(5), range(5))
    assert [(one.group, one.asked) for one in shown] == [
        *(((row,), (4,)) for row in range(4)),
        ((4,), (0, 1)),
    ]
    assert made([1] * 3, 1000, 2, 1, keys="aaa").cut_up(range(3), range(3)) == []


def test_an_over_long_row_goes_alone() -> None:
    """Its neighbours move up, and it is not asked where it leaves no room."""
    lengths = [5, 90, 5, 5, 5, 5, 5]
    layout = dataclasses.replace(made(lengths, 50, 3, 1), too_long_to_ask=frozenset({1}))
    shown = layout.cut_up(range(7), range(7))
    assert groups(shown) == [[0, 2, 3], [4, 5, 6]]
    assert [one.asked for one in shown] == [(4,), (0,)]


def test_what_does_not_fit_waits_for_the_next_prompt() -> None:
    shown = made([10, 10, 10, 10, 2, 10, 10, 10, 2], 45, 3, 1).cut_up(range(8), [8])
    assert groups(shown) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    shown = made([10, 25, 10, 10, 2, 10, 10, 10, 2], 45, 3, 1).cut_up(range(8), [8])
    assert groups(shown) == [[0], [1], [2, 3, 4], [5, 6, 7]]


def test_the_shortest_are_asked_where_those_whose_turn_it_is_leave_no_room() -> None:
    lengths = [30, 5, 5, 20, 20, 1, 2]
    shown = made(lengths, 45, 2, 2).cut_up([0, 1, 2], [3, 4, 5, 6])
    assert [(one.group, one.asked) for one in shown] == [((0,), (5, 6)), ((1, 2), (5, 6))]
    shown = made(lengths, 41, 2, 2).cut_up([0, 1, 2], [5, 6, 3, 4])
    assert [(one.group, one.asked) for one in shown] == [((1, 2), (5, 6))]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.sampled_from("abcdef")), min_size=1, max_size=14),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(12, 90),
    st.randoms(use_true_random=False),
)
def test_whatever_the_lengths_and_copies(
    rows: list[tuple[int, str]], n_d: int, n_q: int, room: int, chance: random.Random
) -> None:
    lengths, keys = [length for length, _ in rows], [key for _, key in rows]
    order, query_order = list(range(len(rows))), list(range(len(rows)))
    chance.shuffle(order)
    chance.shuffle(query_order)
    layout = made(lengths, room, n_d, n_q, keys)
    shown = layout.cut_up(order, query_order)
    assert members(shown) == [row for row in order if row in members(shown)]
    for one in shown:
        assert 1 <= len(one.group) <= n_d
        assert 1 <= len(one.asked) <= n_q
        assert len(one.prompt.ids) <= room
        assert not {keys[row] for row in one.asked} & {keys[row] for row in one.group}
    for row in set(order) - set(members(shown)):
        others = sorted(lengths[other] for other in order if keys[other] != keys[row])[:n_q]
        assert not others or FRAME + lengths[row] + sum(others) > room


@pytest.fixture
def chat(tiny_lm: LM, models: LoadedModels) -> Chat:
    return models.chat(tiny_lm)


def test_real_prompts(chat: Chat) -> None:
    """The pool with an over-long row and a copy: every other row is shown, within the model's length."""
    pool = splits().pool
    layout = grouping(chat, TASK, pool, pool, 3, 2, 100)
    assert layout.room == chat.max_length - 100
    assert {pool[row].id for row in layout.too_long_to_ask} == {TOO_LONG}
    shown = layout.cut_up(range(12), range(12))
    assert {row.id for row in pool} - {pool[row].id for row in members(shown)} == {TOO_LONG}
    assert [len(one.group) for one in shown] == [3, 3, 3, 2]
    for one in shown:
        assert len(one.prompt.ids) <= layout.room
        assert one.prompt == layout.build(one.group, one.asked)
        assert not {pool[row].input for row in one.asked} & {pool[row].input for row in one.group}


def test_all_rows_fit_at_any_length_that_one_fits(chat: Chat) -> None:
    pool = tuple(row for row in splits().pool if row.id != TOO_LONG)
    full = [len(one.prompt.ids) for one in grouping(chat, TASK, pool, pool, 4, 2, 1).cut_up(range(11), range(11))]
    shortened = 0
    for length in range(120, max(full) + 1, 13):
        tight = dataclasses.replace(chat, max_length=length)
        try:
            layout = grouping(tight, TASK, pool, pool, 4, 2, 1)
        except UserError:
            continue
        shown = layout.cut_up(range(11), range(11))
        assert max(len(one.prompt.ids) for one in shown) <= length - 1
        shortened += len(shown) > len(full)
    assert shortened > 1


def test_what_can_not_work_is_said(chat: Chat) -> None:
    pool = splits().pool
    with pytest.raises(UserError, match=r"n_q=2: a prompt .* and 450 are for the answers, but the model takes 512"):
        grouping(chat, TASK, pool, pool, 3, 2, 450)
    copies = examples((("a", "b"), ("A ", "c")))
    with pytest.raises(UserError, match="copies of one"):
        grouping(chat, TASK, copies, copies, 1, 1, 10)
