"""Budgets: how many rows a share or a number is."""

import pytest

from dwbench.budget import parse_budget
from dwbench.errors import UserError


@pytest.mark.parametrize(
    ("asked", "n", "rows"),
    [
        (0.1, 120, 12),
        (0.1, 119, 11),  # floor
        ("5%", 100, 5),
        ("5%", 39, 1),
        ("5 %", 100, 5),
        ("0.5%", 1000, 5),
        (0.29, 100, 29),  # 28.999999999999996
        ("29%", 100, 29),
        (0.07, 100, 7),
        (0.57, 100, 57),
        ("1", 10, 1),  # one row
        (1, 10, 1),
        ("1.0", 10, 10),  # all
        (1.0, 10, 10),
        ("100%", 10, 10),
        ("50", 50, 50),
        (50, 51, 50),
        ("1e-1", 10, 1),
        (0.001, 1000, 1),
    ],
)
def test_rows(asked: str | float | int, n: int, rows: int) -> None:
    assert parse_budget(asked).rows(n) == rows


def test_every_whole_percentage_of_a_hundred_rows() -> None:
    assert [parse_budget(f"{n}%").rows(100) for n in range(1, 101)] == list(range(1, 101))
    assert [parse_budget(n / 100).rows(100) for n in range(1, 101)] == list(range(1, 101))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("0", "must be above 0"),
        (-1, "must be above 0"),
        ("0.0", "above 0 and at most 1"),
        ("0%", "above 0 and at most 1"),
        (-0.1, "above 0 and at most 1"),
        (1.5, "above 0 and at most 1"),
        ("150%", "above 0 and at most 1"),
        ("many", "no number"),
        ("", "no number"),
        ("%", "no number"),
        ("nan", "no number"),
        ("inf", "no number"),
        ("nan%", "above 0 and at most 1"),
        ("inf%", "above 0 and at most 1"),
        (True, "no number"),
    ],
)
def test_what_is_no_budget(asked: str | float, told: str) -> None:
    with pytest.raises(UserError, match=rf"^budget=.*{told}.*: give a share \(5%, 0\.05\)"):
        parse_budget(asked)


def test_more_rows_than_the_pool_has() -> None:
    with pytest.raises(UserError, match=r"^budget=101: the pool has only 100 rows"):
        parse_budget("101").rows(100)


def test_a_share_of_less_than_a_row() -> None:
    with pytest.raises(UserError, match=r"^budget=1%: that is less than one row of the pool's 99"):
        parse_budget("1%").rows(99)
