"""A sweep's status in lines: what is told of it, and how the time left is worked out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dwbench.cli import main
from dwbench.status import Job, Sweep, Work
from dwbench.status_view import RUNNING_SHOWN, Line, lines, seconds_left, span


def a_sweep(**changes: Any) -> Sweep:
    jobs = [job(f"k{number}") for number in range(6)]
    return replace(Sweep("dwbench run x", "/r", "here", 7, 1000.0, tuple(jobs), alive=True), **changes)


def job(key: str, **changes: Any) -> Job:
    return replace(Job(key, f"name {key}", "ifd", "d", "m"), **changes)


def done(key: str, seconds: float = 10.0, **changes: Any) -> Job:
    return job(key, state="done", computed=True, began=1000.0, seconds=seconds, **changes)


def running(key: str, began: float, **changes: Any) -> Job:
    return job(key, state="running", computed=True, began=began, **changes)


def test_time_left() -> None:
    waiting = (job("e"), job("f"))
    assert seconds_left(a_sweep(), now=1000.0) is None
    assert seconds_left(a_sweep(jobs=(done("a", 10.0), done("b", 30.0), *waiting)), 1000.0) == 40.0
    # Of a running job what is left of the mean; two at once take half as long.
    assert seconds_left(a_sweep(jobs=(done("a", 20.0), running("b", 1000.0), *waiting)), 1005.0) == 55.0
    two = (running("b", 1000.0), running("c", 1002.0))
    assert seconds_left(a_sweep(jobs=(done("a", 20.0), *two, *waiting)), 1005.0) == (15.0 + 17.0 + 40.0) / 2
    # One that takes longer than the others did: as its loop says; without one nobody knows.
    assert seconds_left(a_sweep(jobs=(done("a", 20.0), running("b", 900.0))), 1005.0) is None
    assert seconds_left(a_sweep(jobs=(done("a", 20.0), running("b", 900.0), job("c"))), 1005.0) == 20.0
    loop = {"work": Work("tuning", 10, 110, 2.0), "written": 1000.0}
    assert seconds_left(a_sweep(jobs=(done("a", 20.0), running("b", 900.0, **loop))), 1005.0) == 45.0
    several = (done("a", 20.0), running("b", 900.0, **loop), running("c", 1005.0), *waiting)
    assert seconds_left(a_sweep(jobs=several), 1005.0) == (45.0 + 20.0 + 40.0) / 2
    assert seconds_left(a_sweep(jobs=several[:3]), 1005.0) == 45.0  # two at once end no sooner than the longer one
    # What is stored costs nothing, and says nothing about the others.
    stored = job("a", state="done", seconds=0.1)
    assert seconds_left(a_sweep(jobs=(stored, *waiting)), 1000.0) is None
    assert seconds_left(a_sweep(jobs=(stored, done("b", 10.0), job("c", known=True), job("d"))), 1000.0) == 10.0
    assert seconds_left(a_sweep(jobs=(stored, job("c", known=True))), 1000.0) == 0.0
    # Unless the store is gone: a record alone finds nothing.
    again = (done("a", 10.0, known=True), job("b", known=True), job("c", known=True))
    assert seconds_left(a_sweep(jobs=again), 1000.0) == 20.0
    half = (done("a", 10.0, known=True), job("b", known=True, state="done"), job("c", known=True))
    assert seconds_left(a_sweep(jobs=half), 1000.0) == 5.0


def texts(sweep: Sweep, now: float = 1100.0) -> list[str]:
    return [line.text for line in lines(sweep, now)]


def test_best_so_far_is_by_each_metrics_direction() -> None:
    jobs = (
        done("a", metrics={"rouge_l": 0.25, "nll": 2.0, "response_tokens_mean": 9.0}),
        done("b", metrics={"rouge_l": 0.5, "nll": 3.0}),
        replace(done("c", metrics={"rouge_l": 0.75}), label="full"),  # a bound
        replace(done("d", metrics={"rouge_l": 0.125}), dataset="other"),
        job("e", state="failed", metrics={}, error="E: x", error_file="f.json"),
    )
    told = texts(a_sweep(jobs=jobs))
    assert told[told.index("  best so far  d, m") :][:5] == [
        "  best so far  d, m",
        "    rouge_l ↑ 0.5  name b",
        "    nll ↓ 2  name a",
        "  best so far  other, m",
        "    rouge_l ↑ 0.125  name d",
    ]


def test_the_lines_of_a_running_stage() -> None:
    work = Work("tuning", 250, 1000, 5.0)
    jobs = (
        running("a", 1040.0, stage="train", doing="start", work=work, written=1090.0),
        running("b", 1095.0, stage="represent", doing="wait"),
        *(job(f"f{n}", state="failed", error="E: x", error_file=f"f{n}.json") for n in range(7)),
    )
    told = texts(a_sweep(jobs=jobs))
    assert told[:5] == [
        "dwbench run x",
        "  running for 1 min 40 s, time left not known (process 7 on here)",
        "  0 done, 2 running, 7 failed, 0 waiting of 9",
        "  failed  name f0: E: x",
        "    f0.json",
    ]
    assert told[-5:] == [
        "    and 2 more in /r/failed",
        "  running  name a  1 min 0 s",
        "    train: tuning ━━━━━··············· 250/1,000, 5/s, 2 min 20 s left",
        "  running  name b  5 s",
        "    represent: another process builds it",
    ]
    assert Line("  failed  name f0: E: x", "red") in lines(a_sweep(jobs=jobs), 1100.0)


def test_many_that_run_leave_room_for_the_rest() -> None:
    jobs = (*(running(f"r{n}", 1000.0) for n in range(RUNNING_SHOWN + 3)), done("a", metrics={"nll": 2.0}))
    told = texts(a_sweep(jobs=jobs))
    assert sum(line.startswith("  running  ") for line in told) == RUNNING_SHOWN
    assert told[-3:] == ["    and 3 more", "  best so far  d, m", "    nll ↓ 2  name a"]


def test_how_it_ended() -> None:
    def state(**changes: Any) -> list[str]:
        return texts(a_sweep(jobs=(done("a"), job("b")), alive=False, **changes), now=4700.0)[1:4]

    go_on = "  to go on, give the same command again"
    rest = "  1 done, 0 stopped, 0 failed, 1 not begun of 2"
    assert state() == ["  killed: process 7 on here is gone", rest, go_on]
    assert state(ended=1061.0, outcome="interrupted") == ["  interrupted after 1 min 1 s, 1 h 0 min ago", rest, go_on]
    over = texts(a_sweep(jobs=(done("a"),), alive=False, ended=1061.0, outcome="done"), now=1062.0)
    assert over == ["dwbench run x", "  over after 1 min 1 s", "  1 done, 0 stopped, 0 failed, 0 not begun of 1"]


def test_spans() -> None:
    assert [span(seconds) for seconds in (-1, 0.4, 59.4, 60, 3599, 7500)] == [
        "0 s", "0 s", "59 s", "1 min 0 s", "59 min 59 s", "2 h 5 min",
    ]  # fmt: skip


def test_there_is_nothing_to_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--store", str(tmp_path / "store")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"dwbench: {tmp_path / 'status'}: no sweep: `dwbench run` begins one")
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
