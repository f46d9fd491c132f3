"""Planted noise among the chosen rows, from records."""

import dataclasses

import pytest
from made_records import made

from dwbench.records import Record
from dwbench.report.kinds import audits, render, share

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
    assert audit.selectors["random"]["wrong_response"] == share(5, 20)
    assert audit.selectors["random"]["copy"] == share(1, 20)
    assert audit.selectors["high_ppl"]["clean"] == share(0, 10)
    text = render([audit], "text")
    assert "10 of 1000 rows" in text
    assert "25% [9, 49]" in text
    assert render([audit], "md").count("|") > text.count("|")


def test_two_pools_of_one_size_are_told_apart() -> None:
    first, second = planted("random", 0, clean=10), planted("random", 0, copy=10)
    fingerprints = {**second.data["dataset"]["fingerprints"], "pool": "9" * 20}
    data = {**second.data, "dataset": {**second.data["dataset"], "fingerprints": fingerprints}}
    titles = [one.title for one in audits([first, dataclasses.replace(second, data=data)])]
    assert len(set(titles)) == 2
    assert any(f"(dataset.pool={'9' * 20})" in title for title in titles)


def test_without_planted_noise_there_is_nothing_to_audit() -> None:
    assert audits([made("random"), made("ifd")]) == []
