"""What a sweep tells of itself: on the terminal, to another terminal, when it is killed, and where it can't write."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dwbench.cli import main
from dwbench.models.spec import LM
from dwbench.progress import Quiet
from dwbench.status import JOB, KEPT, LOCK, SWEEP, Job, Reader, Watch, Work, read, sweeps, watched

WAITS = """
import time
from pathlib import Path
from dwbench.component import component
from dwbench.selectors.random import Random


@component
class Waits(Random):
    def score(self, context):
        while not Path("go").exists():
            time.sleep(0.02)
        if Path("broken").exists():
            raise RuntimeError("out of luck")
        return super().score(context)
"""


CHOSEN = "select_only=true"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a selector `waits` of its own, which goes on when there is a file `go` and fails when `broken`.

    What a run needs beside torch takes 5 s to import where it tunes; sweeps of which no more than their status counts
    are `CHOSEN`: they only choose.
    """
    (tmp_path / "conf" / "selector").mkdir(parents=True)
    (tmp_path / "conf" / "selector" / "waits.yaml").write_text("_target_: waiting_selector.Waits\n")
    (tmp_path / "waiting_selector.py").write_text(WAITS)
    return tmp_path


@pytest.fixture
def small(tiny_lm: LM) -> tuple[str, ...]:
    return (
        f"model.source={tiny_lm.source}", "model.name=tiny", "model.dtype=float32", "model.device=cpu",
        "model.max_length=512", "dataset=embedded", "dataset.pool_rows=12", "dataset.target_rows=2",
        "dataset.test_rows=3", "dataset.task.max_new_tokens=8", "train=small", "train.batch_size=1",
        "train.epochs=1", "budget=2", "tracker=none",
    )  # fmt: skip


@pytest.fixture
def start(here: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts `dwbench run` in `here`; what still runs at the end is killed."""
    begun: list[subprocess.Popen[str]] = []

    def run(arguments: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
        told = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        command = [sys.executable, "-m", "dwbench.cli", "run", *arguments]
        begun.append(subprocess.Popen(command, cwd=here, text=True, start_new_session=True, **told))
        return begun[-1]

    yield run
    for process in begun:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # joblib's workers too
        process.wait()


def status(folder: Path, *arguments: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["status", "--store", str(folder / ".dwbench" / "store"), *arguments]) == 0
    return out.getvalue()


def wait_for(told: Callable[[], str], *words: str, seconds: float = 120.0) -> str:
    """`told()` once it has all `words`."""
    until = time.monotonic() + seconds
    text = ""
    while time.monotonic() < until:
        with contextlib.suppress(AssertionError):  # nothing has begun yet
            text = told()
            if all(word in text for word in words):
                return text
        time.sleep(0.1)
    raise AssertionError(f"never {words}: {text}")


def test_a_killed_sweep_says_so_and_goes_on(
    here: Path,
    small: tuple[str, ...],
    start: Callable[..., "subprocess.Popen[str]"],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [*small, CHOSEN, "selector=random,waits", "-m"]
    process = start(arguments)
    told = wait_for(lambda: status(here), "1 done, 1 running, 0 failed, 0 waiting of 2", "score")
    assert told.splitlines()[0] == f"dwbench run {' '.join(arguments)}"
    assert re.search(rf"  running for [^,]+, (about .+ left|time left not known) \(process {process.pid} on ", told)
    assert "  running  embedded | tiny | waits | 2 | seed 0" in told
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    told = status(here)
    assert f"  killed: process {process.pid} on " in told
    assert "  1 done, 1 stopped, 0 failed, 0 not begun of 2\n  to go on, give the same command again\n" in told
    assert status(here, "--results", str(here / "results")) == told
    (here / "go").touch()
    monkeypatch.chdir(here)
    capsys.readouterr()
    assert main(["run", *arguments]) == 0  # here, where torch is imported already
    out, err = capsys.readouterr()
    assert "waits" in out
    # Where no terminal is, all is as it was before there was a status.
    assert err.splitlines() == [
        "embedded | tiny | random | 2 | seed 0",
        "  score: stored",
        "  shape: stored",
        "embedded | tiny | waits | 2 | seed 0",
        "  score: start",
        "  shape: stored",
    ]
    told = status(here)
    assert "killed" not in told
    assert "  2 done, 0 stopped, 0 failed, 0 not begun of 2" in told
    assert re.search(r"\n  over after \d+ s\n", told)
    assert "to go on" not in told


def test_two_sweeps_at_once_and_several_processes(
    here: Path, small: tuple[str, ...], start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="pip install 'dwbench[joblib]'")
    two = start([*small, CHOSEN, "selector=waits", "seed=1,2,3", "launch=joblib", "results_dir=two", "-m"])
    _, say = said()
    with watched(here / ".dwbench" / "status", "dwbench run one", here / "one", [job("a")], say) as one:
        assert one is not None
        Watch(one, job("a"), Quiet(), say)
        told = wait_for(lambda: status(here), "0 done, 1 running, 0 failed, 0 waiting of 1", "0 done, 2 running")
        assert told.count("running for") == 2
        assert "seed 1" in told
        assert "seed 2" in told
        assert "seed 3" not in told
        mine = status(here, "--results", str(here / "two"))
        assert mine.count("running for") == 1
        assert "0 done, 2 running, 0 failed, 1 waiting of 3" in mine
    (here / "broken").touch()
    (here / "go").touch()
    two.communicate()
    assert two.returncode == 1
    told = status(here, "--results", str(here / "two"))
    assert "  0 done, 0 stopped, 3 failed, 0 not begun of 3" in told
    assert "  failed  embedded | tiny | waits | 2 | seed 3: RuntimeError: out of luck" in told
    assert "to go on" in told
    (path,) = set(re.findall(r"^    (\S+failed/\w+\.json)$", told, re.M)[:1])
    assert json.loads((here / path).read_text())["error"] == "RuntimeError: out of luck"


class Screen:
    """A pseudo-terminal and what was written to it so far, without what only moves the cursor or colours."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        os.set_blocking(self._ours, False)
        self._raw = b""

    def text(self) -> str:
        with contextlib.suppress(BlockingIOError, OSError):  # nothing there; the other side is closed
            while chunk := os.read(self._ours, 65536):
                self._raw += chunk
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._raw.decode(errors="replace")).replace("\r", "")

    def close(self) -> None:
        os.close(self.theirs)
        os.close(self._ours)


def test_the_view_on_a_terminal(
    here: Path, small: tuple[str, ...], start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    screen = Screen()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    (here / "broken").touch()
    options = {"stdin": screen.theirs, "stderr": screen.theirs, "env": environment}
    process = start([*small, "selector=random,waits,zero_shot", "-m"], **options)
    told = wait_for(
        screen.text, "1 done, 1 running, 0 failed, 1 waiting of 3", "best so far  embedded, tiny", "    score"
    )
    assert "  running  embedded | tiny | waits | 2 | seed 0" in told
    assert "    score" in told
    assert re.search(r"best so far  embedded, tiny\n(.*\n)*    rouge_l ↑ \S+  embedded \| tiny \| random \|", told)
    assert "best so far" in status(here)
    (here / "go").touch()
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        screen.text()  # else the other side waits for room
        time.sleep(0.05)
    told = screen.text()
    screen.close()
    out, _ = process.communicate()
    assert process.returncode == 1
    # The view is gone; what is left of it is how the sweep ended, and nothing of it is on standard output.
    end = told[told.rindex("dwbench run ") :]
    assert "  2 done, 0 stopped, 1 failed, 0 not begun of 3" in end
    assert "  failed  embedded | tiny | waits | 2 | seed 0: RuntimeError: out of luck" in end
    assert "1 of 3 runs failed: see results/failed" in end
    assert ": start" not in told
    assert "\x1b" not in out
    assert "random" in out
    assert "2 done" not in out


def job(key: str, **changes: Any) -> Job:
    return replace(Job(key, f"name {key}", "ifd", "d", "m"), **changes)


def said() -> tuple[list[str], Callable[[str], None]]:
    told: list[str] = []
    return told, told.append


def test_a_job_tells_of_its_stages(tmp_path: Path) -> None:
    told, say = said()
    with watched(tmp_path, "dwbench run x", tmp_path / "results", [job("a"), job("b")], say) as own:
        assert own is not None

        def now() -> Job:
            sweep = read(own)
            assert sweep is not None
            assert [one.key for one in sweep.jobs] == ["a", "b"]
            assert sweep.jobs[1].state == "waiting"
            return sweep.jobs[0]

        assert now().state == "waiting"
        watch = Watch(own, job("a"), Quiet(), say)
        assert (now().state, now().stage) == ("running", None)
        watch.stage("score", "start")
        watch.stage("represent", "start")
        assert (now().stage, now().doing, now().computed) == ("represent", "start", True)
        watch._last -= 100  # as if nothing had been written for long
        with watch.track("losses", 40) as advance:
            advance(10)
            assert now().work is not None
            assert now().work == Work("losses", 10, 40, now().work.rate)  # type: ignore[union-attr]
            advance(10)  # at once: not worth a file
            assert now().work.done == 10  # type: ignore[union-attr]
        watch.stage("represent", "done")
        assert (now().stage, now().work) == ("score", None)
        watch.done({"nll": 1.5, "acc": None})
        assert (now().state, now().metrics) == ("done", {"nll": 1.5})
        (alive,) = sweeps(tmp_path)
        assert alive.alive
        assert alive.ended is None
    (over,) = sweeps(tmp_path)
    assert (over.alive, over.outcome, told) == (False, "done", [])
    assert not list(tmp_path.rglob("*.part"))


def test_what_is_over_is_one_file(tmp_path: Path) -> None:
    told, say = said()
    with watched(tmp_path, "c", tmp_path, [job("a", known=True), job("b"), job("c")], say) as own:
        assert own is not None
        Watch(own, job("a"), Quiet(), say).done({"nll": 1.5})
        Watch(own, job("other"), Quiet(), say).failed("E: x", Path("f.json"))
        before, view = sweeps(tmp_path), Reader(own)
        assert view.read() == read(own)
        assert {path.name for path in own.iterdir()} > {f"{JOB}a.json", f"{JOB}other.json"}
    assert {path.name for path in own.iterdir()} == {SWEEP, LOCK}
    (after,) = sweeps(tmp_path)
    assert [(one.key, one.state, one.known) for one in after.jobs] == [
        ("a", "done", True), ("b", "waiting", False), ("c", "waiting", False), ("other", "failed", False),
    ]  # fmt: skip
    assert after.jobs == before[0].jobs
    seen = view.read()
    assert seen is not None
    assert seen.jobs == after.jobs
    # A worker that was not told of the end: what it writes counts.
    Watch(own, job("b"), Quiet(), say)
    assert [one.state for one in sweeps(tmp_path)[0].jobs] == ["done", "running", "waiting", "failed"]
    assert told == []


def test_a_view_reads_what_is_over_once(tmp_path: Path) -> None:
    _, say = said()
    with watched(tmp_path, "c", tmp_path, [job("a"), job("b")], say) as own:
        assert own is not None
        Watch(own, job("a"), Quiet(), say).done({})
        second = Watch(own, job("b"), Quiet(), say)
        view = Reader(own)
        assert view.read() is not None
        # As nobody reads them again, it does not matter what becomes of these.
        (own / f"{JOB}a.json").write_text("no JSON")
        second.stage("score", "start")
        seen = view.read()
        assert seen is not None
        assert [(one.state, one.stage) for one in seen.jobs] == [("done", None), ("running", "score")]
        assert read(own) is None
        second.done({})


def test_an_interruption_is_told(tmp_path: Path) -> None:
    _, say = said()
    with pytest.raises(KeyboardInterrupt), watched(tmp_path, "c", tmp_path, [], say):
        raise KeyboardInterrupt
    assert [sweep.outcome for sweep in sweeps(tmp_path)] == ["interrupted"]


def test_what_is_over_is_forgotten(tmp_path: Path) -> None:
    _, say = said()
    for number in range(KEPT + 3):
        with watched(tmp_path, f"command {number}", tmp_path, [], say) as own:
            assert own is not None
        own.rename(tmp_path / f"{number:03}")  # they'd be of one process and one second
    with watched(tmp_path, "command 12", tmp_path, [], say):
        commands = [sweep.command for sweep in sweeps(tmp_path)]
    # Of command 12 only what runs now; of the others the last ones, as they were when it began.
    assert commands == [*(f"command {number}" for number in range(2, 12)), "command 12"]


def test_where_it_can_not_be_written_that_is_said_once(tmp_path: Path) -> None:
    told, say = said()
    (tmp_path / "file").touch()
    with watched(tmp_path / "file" / "status", "c", tmp_path, [], say) as own:
        assert own is None
    assert len(told) == 1
    assert told[0].startswith("status can't be written, the run goes on: ")
    told.clear()
    watch = Watch(tmp_path / "file", job("a"), Quiet(), say)
    for _ in range(3):
        watch.stage("score", "start")
    watch.done({})
    assert len(told) == 1
    assert str(tmp_path / "file") in told[0]


def test_what_is_no_text_and_what_is_no_number_stop_nothing(tmp_path: Path) -> None:
    told, say = said()
    with watched(tmp_path, "dwbench run results_dir=\udcff", tmp_path, [], say) as own:
        assert own is None
    assert len(told) == 1
    assert "surrogates not allowed" in told[0]
    with watched(tmp_path, "c", tmp_path, [job("a")], say) as own:
        assert own is not None
        Watch(own, job("a"), Quiet(), say).done({"nll": float("nan")})
        assert [one.state for one in sweeps(tmp_path)[0].jobs] == ["running"]
    assert len(told) == 2


def test_a_lock_that_can_not_be_asked_counts_as_held(tmp_path: Path) -> None:
    _, say = said()
    with watched(tmp_path, "c", tmp_path, [], say) as own:
        assert own is not None
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / SWEEP).write_bytes((own / SWEEP).read_bytes())
        assert sorted(sweep.alive for sweep in sweeps(tmp_path)) == [False, True]
        (elsewhere / LOCK).mkdir()  # as one of another user: opening it fails
        assert [sweep.alive for sweep in sweeps(tmp_path)] == [True, True]
    with watched(tmp_path, "c", tmp_path, [], say):
        assert elsewhere.exists()  # nobody takes away what may be going on


def test_a_run_goes_on_where_its_status_can_not_be_written(
    here: Path, small: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    (here / ".dwbench").mkdir()
    (here / ".dwbench" / "status").touch()
    assert main(["run", *small, CHOSEN, "selector=random"]) == 0
    out, err = capsys.readouterr()
    assert "random" in out
    assert err.count("status can't be written") == 1


def test_what_another_version_left_is_passed_over(tmp_path: Path) -> None:
    _, say = said()
    with watched(tmp_path, "c", tmp_path, [], say) as own:
        assert own is not None
        (own / "sweep.json").write_text('{"version": 99}')
        assert sweeps(tmp_path) == []
