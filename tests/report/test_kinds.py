"""Planted noise among the chosen rows, from records."""

import dataclasses

import pytest
from made_records import made
from scipy.stats import binomtest

from dwbench.records import Record
from dwbench.report.kinds import audits, out_of_reach, render, share

POOL = {"clean": 700, "copy": 100, "wrong_response": 200}


def planted(selector: str, seed: int, **counts: int) -> Record:
    """A record of 10 rows chosen from 1,000."""
    record = made(selector, rows=10, seed=seed)
    data = dict(record.data)
    data["dataset"] = {**data["dataset"], "kinds": POOL}
    ids = [f"{selector} {kind} {number}" for kind, count in counts.items() for number in range(count)]
    data["selection"] = {**data["selection"], "kinds": counts, "ids": ids}
    return dataclasses.replace(record, data=data)


def test_intervals_are_exact() -> None:
    none, half = share(0, 10), share(5, 10)
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 10))  # Clopper-Pearson without any success
    assert (half.low, half.high) == pytest.approx((0.187, 0.813), abs=1e-3)
    for count in range(8):
        exact, ours = binomtest(count, 7).proportion_ci(method="exact"), share(count, 7)
        assert (ours.low, ours.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_rows_that_are_the_same_again_narrow_no_interval() -> None:
    assert share(5, 20, 20) == share(5, 20)
    once, again = share(3, 12), share(5, 20, 12)
    assert (again.count, again.of, again.value) == (5, 20, 0.25)
    assert (again.low, again.high) == pytest.approx((once.low, once.high))
    assert (share(0, 20, 10).high, share(20, 20, 10).low) == (share(0, 10).high, share(10, 10).low)


@pytest.mark.parametrize(("count", "of", "different"), [(-1, 10, 10), (11, 10, 10), (0, 0, 0), (2, 10, 11)])
def test_what_is_no_share_is_refused(count: int, of: int, different: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        share(count, of, different)


def test_a_share_is_told_from_the_pools_only_where_the_interval_leaves_it_out() -> None:
    assert [share(count, 18).against(0.2) for count in (0, 1, 7, 8)] == ["-", "", "", "+"]


def test_seeds_are_taken_together_and_methods_apart() -> None:
    (audit,) = audits(
        [
            planted("random", 0, clean=8, wrong_response=2),
            planted("random", 1, clean=6, wrong_response=3, copy=1),
            planted("high_ppl", 0, wrong_response=10),
            planted("high_ppl", 1, wrong_response=10),  # the same choice once more tells nothing new
            made("ifd"),  # of a pool without planted noise
        ]
    )
    assert audit.pool == {"clean": 0.7, "copy": 0.1, "wrong_response": 0.2}
    # Of 20 chosen rows 12 are different: 8 clean ones, 3 with another's response and a copy.
    assert audit.selectors["random"]["wrong_response"] == share(5, 20, 12)
    assert audit.selectors["random"]["copy"] == share(1, 20, 12)
    assert audit.selectors["high_ppl"]["clean"] == share(0, 10)
    text = render([audit], "text")
    assert "10 of 1000 rows" in text
    line = next(line for line in text.splitlines() if line.startswith("random"))
    assert "25% [5, 57]" in line
    assert "+" not in line
    assert "100% [69, 100] +" in text
    assert "0% [0, 31] -" in text  # clean, 70 % of the pool
    assert "exact (Clopper-Pearson)" in text
    assert render([audit], "md").count("|") > text.count("|")


def test_kinds_too_rare_for_a_sign_are_told() -> None:
    planted_kinds = {"clean": 39, "wrong_response": 12, "copy": 5, "truncated": 3, "empty": 1}
    found = out_of_reach(planted_kinds, 18)
    for sign, kinds in found.items():
        for kind, count in planted_kinds.items():
            possible = {share(number, 18).against(count / 60) for number in range(min(18, count) + 1)}
            assert (sign in possible) == (kind not in kinds)
    assert found == {"+": ("truncated", "empty"), "-": ("copy", "truncated", "empty")}
    # 58 of 60 rows hold 37 clean ones at least.
    assert out_of_reach(planted_kinds, 58)["-"] == tuple(planted_kinds)
    (audit,) = audits([planted("random", 0, clean=10)])
    assert audit.never == {"+": ("clean",), "-": ("copy", "wrong_response")}
    for form in ("text", "md", "latex"):
        text = render([audit], form)
        assert "get a + for clean, whatever it holds" in text
        assert "get a - for copy, " in text
        assert "half of the copies' share" in " ".join(text.split())


def test_two_pools_of_one_size_are_told_apart() -> None:
    first, second = planted("random", 0, clean=10), planted("random", 0, copy=10)
    fingerprints = {**second.data["dataset"]["fingerprints"], "pool": "9" * 20}
    data = {**second.data, "dataset": {**second.data["dataset"], "fingerprints": fingerprints}}
    titles = [one.title for one in audits([first, dataclasses.replace(second, data=data)])]
    assert len(set(titles)) == 2
    assert any(f"(dataset.pool={'9' * 20})" in title for title in titles)


def test_without_planted_noise_there_is_nothing_to_audit() -> None:
    assert audits([made("random"), made("ifd")]) == []
