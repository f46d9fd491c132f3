"""What a person sees while something runs, where there is no terminal: plain lines, as they always were."""

import re
import sys
from collections.abc import Sequence

import pytest

from dwbench.job import progress
from dwbench.progress import Lines, Quiet, per_second


def test_stages_say_what_happens_but_not_that_it_is_done() -> None:
    told: list[str] = []
    shown = Lines(told.append)
    for event in ("start", "stored", "wait", "damaged", "done"):
        shown.stage("score", event)
    assert told == ["  score: start", "  score: stored", "  score: wait", "  score: damaged"]


def tracked(shown: Lines, total: int, steps: Sequence[int]) -> None:
    with shown.track("tuning", total) as advance:
        for units in steps:
            advance(units)


def test_a_loop_says_at_the_end_how_long_it_took() -> None:
    told: list[str] = []
    tracked(Lines(told.append), 4, [1, 3])
    tracked(Lines(told.append), 0, [])
    assert len(told) == 1
    assert re.fullmatch(r"  tuning: 4/4 in 0\.\d s", told[0])


def test_a_long_loop_says_how_far_it_is() -> None:
    told: list[str] = []
    tracked(Lines(told.append, every=0.0), 4, [1, 0, 2])
    assert len(told) == 4
    for line, done in zip(told, (1, 1, 3), strict=False):
        assert re.fullmatch(rf"  tuning: {done}/4, \S+/s, \d+ s left", line)
    assert re.fullmatch(r"  tuning: 3/4 in 0\.\d s", told[3])


def test_nothing_is_said_of_the_time_left_before_anything_is_done() -> None:
    told: list[str] = []
    tracked(Lines(told.append, every=0.0), 4, [0])
    assert told[0] == "  tuning: 0/4, 0/s"


def test_rates() -> None:
    assert [per_second(rate) for rate in (0.0123, 5.0, 99.4, 99.6, 1250.4)] == [
        "0.012/s", "5/s", "99/s", "100/s", "1,250/s",
    ]  # fmt: skip


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Quiet()
    shown.stage("score", "start")
    with shown.track("tuning", 3) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


def test_where_there_is_no_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert not sys.stderr.isatty()
    progress().stage("score", "start")
    assert capsys.readouterr() == ("", "  score: start\n")
