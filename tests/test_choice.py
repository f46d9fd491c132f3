"""What a record tells of a choice: sample rows and places."""

import json
import math

import numpy as np
import pytest
from made_records import made
from page_records import enriched

from dwbench.choice import SAMPLE_LENGTH, kept_places, samples, shortened
from dwbench.data.base import Example
from dwbench.rules.ranking import rank, scores


def rows(count: int, text: str = "x") -> tuple[Example, ...]:
    return tuple(
        Example(id=f"r{n}", uid=f"{9 - n}", index=n, input=text, response=f"answer {n}", references=("a",))
        for n in range(count)
    )


VALUES = np.array([0.1, 0.9, np.nan, 0.5, 0.7, 0.3])
FOUND = scores(VALUES, VALUES, ("", "", "empty", "", "", ""))
RANKING = rank(FOUND, 2, np.zeros(6))


def test_samples_are_the_best_chosen_and_the_nearest_rejected() -> None:
    told = samples(RANKING, FOUND, rows(6), 2, 2)
    assert [(one["id"], one["chosen"], one["place"], one["score"]) for one in told] == [
        ("r1", True, 1.0, 0.9),
        ("r4", True, 2.0, 0.7),
        ("r3", False, 3.0, 0.5),
        ("r5", False, 4.0, 0.3),
    ]
    assert told[0]["response"] == "answer 1"


def test_a_row_without_a_score_says_null() -> None:
    last = samples(RANKING, FOUND, rows(6), 5, 3)[-1]
    assert (last["id"], last["chosen"], last["score"], last["place"]) == ("r2", False, None, None)


@pytest.mark.parametrize(("k", "count", "expected"), [(2, 0, 0), (6, 2, 2), (0, 2, 2), (1, 3, 4), (3, 9, 6)])
def test_there_are_never_more_samples_than_rows(k: int, count: int, expected: int) -> None:
    told = samples(RANKING, FOUND, rows(6), k, count)
    assert len(told) == expected
    assert sum(one["chosen"] for one in told) == min(k, count)
    json.dumps(told, allow_nan=False)


def test_an_infinite_score_is_no_number_in_a_record() -> None:
    values = np.array([math.inf, 0.0])
    (first,) = samples(
        rank(scores(values, values, ("", "")), 1, np.zeros(2)), scores(values, values, ("", "")), rows(2), 1, 1
    )[:1]
    assert (first["id"], first["score"]) == ("r0", None)


def test_long_texts_are_cut_with_an_ellipsis() -> None:
    (one, *_) = samples(RANKING, FOUND, rows(6, "y" * 301), 1, 1)
    assert one["input"] == "y" * 299 + "…"
    assert len(one["input"]) == SAMPLE_LENGTH
    assert shortened("y" * SAMPLE_LENGTH) == "y" * SAMPLE_LENGTH


def test_places_go_by_uid() -> None:
    assert kept_places(FOUND, rows(6)) == [4.0, 2.0, 3.0, None, 1.0, 5.0]


def test_samples_are_no_part_of_what_a_record_says() -> None:
    old = made("ifd")
    new = enriched(old, selection={"samples": [{"id": "a"}]})
    assert new.content_key == old.content_key
    assert enriched(old, selection={"tokens": 1}).content_key != old.content_key
