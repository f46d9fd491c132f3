"""Noise of known kinds in a pool."""

from collections import Counter

import pytest

from dwbench.component import identity
from dwbench.data.base import RawRow, Splits, fingerprint, number_rows
from dwbench.data.planted import Plant
from dwbench.errors import UserError


def splits(n: int = 100, answer: str = "answer {} has five words") -> Splits:
    rows = [RawRow(str(i), f"question {i} asks it", answer.format(i), f"row {i}") for i in range(n)]
    target = [RawRow("t", "target?", "yes", "t")]
    return Splits(number_rows(rows), number_rows(target), ())


def test_every_kind_has_its_share_and_its_nature() -> None:
    before = {row.id: row for row in splits().pool}
    planted = Plant(wrong_response=0.2, copy=0.05, near_copy=0.05, truncated=0.03, empty=0.02).into(splits(), seed=0)
    assert Counter(row.kind for row in planted.pool) == {
        "clean": 65, "wrong_response": 20, "copy": 5, "near_copy": 5, "truncated": 3, "empty": 2,
    }  # fmt: skip
    assert [row.id for row in planted.pool] == list(before)  # every row keeps its place and id
    assert planted.target == splits().target
    assert "20 wrong_response" in planted.notes[-1]
    assert "of 100 rows" in planted.notes[-1]
    clean = {(row.input, row.response) for row in planted.pool if row.kind == "clean"}
    wrong = [row for row in planted.pool if row.kind == "wrong_response"]
    assert sorted(row.response for row in wrong) == sorted(before[row.id].response for row in wrong)
    for row in planted.pool:
        old = before[row.id]
        if row.kind == "clean":
            assert (row.input, row.response, row.uid[:20]) == (old.input, old.response, old.uid)
        elif row.kind == "wrong_response":
            assert row.input == old.input
            assert row.response != old.response
        elif row.kind == "copy":
            assert (row.input, row.response) in clean
            assert sum(other.uid.startswith(row.uid[:20]) for other in planted.pool) == 2
        elif row.kind == "near_copy":
            words = row.input.split()
            doubled = [place for place in range(1, len(words)) if words[place] == words[place - 1]]
            assert len(doubled) == 1
            del words[doubled[0]]
            assert (" ".join(words), row.response) in clean
        elif row.kind == "truncated":
            assert row.input == old.input
            assert row.response == "answer"
        else:
            assert row.input == old.input
            assert row.response == "."
        assert row.references == (row.response,)


def test_what_is_planted_depends_on_content_and_seed_alone() -> None:
    given = splits()
    turned = Splits(
        number_rows([RawRow(r.id, r.input, r.response, "") for r in reversed(given.pool)]), given.target, ()
    )
    kinds = {row.id: (row.kind, row.input, row.response) for row in Plant().into(given, 0).pool}
    assert {row.id: (row.kind, row.input, row.response) for row in Plant().into(turned, 0).pool} == kinds
    assert {row.id: (row.kind, row.input, row.response) for row in Plant().into(given, 1).pool} != kinds


def test_a_wrong_response_does_not_read_like_the_right_one() -> None:
    answers = ("Yes", "yes.", "  YES!", "no")
    rows = [RawRow(str(i), f"q {i}", answers[i % 4] if i % 2 else f"answer {i}", "") for i in range(200)]
    pool = number_rows(rows)
    right = {row.id: row.response for row in pool}
    for seed in range(5):
        found = Plant(wrong_response=0.2).into(Splits(pool, (), ()), seed).pool
        wrong = [row for row in found if row.kind == "wrong_response"]
        assert len(wrong) == 40
        assert not any(row.response.strip(" .!").lower() == right[row.id].strip(" .!").lower() for row in wrong)


def test_a_response_that_would_read_as_before_is_not_drawn() -> None:
    rows = [RawRow(str(i), f"q {i}", ("7", "a.", ".", "three words here")[i % 4], "") for i in range(200)]
    pool = number_rows(rows)
    before = {row.id: row.response for row in pool}
    found = Plant(wrong_response=0, truncated=0.2, empty=0.2).into(Splits(pool, (), ()), 0).pool
    assert Counter(row.kind for row in found) == {
        "clean": 100, "copy": 10, "near_copy": 10, "truncated": 40, "empty": 40,
    }  # fmt: skip
    assert {before[row.id] for row in found if row.kind == "truncated"} == {"three words here"}
    assert {before[row.id] for row in found if row.kind == "empty"} <= {"7", "a.", "three words here"}
    with pytest.raises(UserError, match=r"plant\.truncated=0\.3: only 50 rows are left"):
        Plant(wrong_response=0, copy=0, near_copy=0, truncated=0.3).into(Splits(pool, (), ()), 0)


def test_the_draw_is_what_it_was() -> None:
    """Keys of runs hold the planted pool's fingerprint: where no two responses read the same it must not change."""
    found = [fingerprint(Plant().into(splits(), seed).pool, ordered=True) for seed in (0, 1)]
    assert found == ["562ba42ad190e1a20aab", "f2bbded635c3757dfea5"]


def test_what_cannot_be_planted_is_said() -> None:
    with pytest.raises(UserError, match=r"plant\.copy=0\.05: makes 0 of 10 rows"):
        Plant(truncated=0.0, empty=0.0).into(splits(10), 0)
    rows = [RawRow(str(i), f"q {i}", f"no {i}" if i % 3 else "Yes", "") for i in range(200)]
    often = Splits(number_rows(rows), (), ())
    by_id = {row.id: row.response for row in often.pool}
    wrong = [row for row in Plant(wrong_response=0.1).into(often, 1).pool if row.kind == "wrong_response"]
    assert len(wrong) == 20
    assert all(row.response != by_id[row.id] for row in wrong)
    with pytest.raises(UserError, match=r"plant\.wrong_response: too many"):
        Plant().into(splits(100, "always the same answer"), 0)
    for shares in ({"copy": 0.5}, {"wrong_response": -0.1}, {"empty": 1.0}):
        with pytest.raises(ValueError, match=r"must be|above 1"):
            Plant(**shares)
    nothing = Plant(wrong_response=0, copy=0, near_copy=0, truncated=0, empty=0).into(splits(), 0)
    assert {row.kind for row in nothing.pool} == {"clean"}
    assert set(identity(Plant())) >= {"wrong_response", "copy", "near_copy", "truncated", "empty"}
