"""What a sweep tells of itself on disk while it runs, so that another terminal can show it: `status/<sweep>/` beside
the store.

`sweep.json` is written by the process that was started, when it begins and when it ends; `job-<run key>.json` by the
process that runs the job, when a stage begins or ends and every few seconds in between. So every file has one writer
at a time and appears by one rename: nobody waits, and no reader sees half a file. When all is done, the jobs go into
`sweep.json` and their files are deleted. Whether it still runs is told by a lock that dies with its process.

Nothing here decides anything. What can't be written (a full disk, a folder that is not ours, a name that is no text) is
said once, the run goes on, and the next change is tried again: results lie elsewhere, and their own writing says if the
disk is full.

A job writes 1 kB some ten times, outside of what is measured but for one every `EVERY_SECONDS` in a loop. A view reads
what has changed only.
"""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import filelock
from pydantic import TypeAdapter, ValidationError

from dwbench.progress import Advance, Progress
from dwbench.store import write_json

EVERY_SECONDS = 2.0
"""While a stage goes on its file is written at most so often."""

KEPT = 10
"""So many sweeps that have ended are kept."""

LOCK, SWEEP, JOB = "alive.lock", "sweep.json", "job-"
OVER = ("done", "failed")


@dataclass(frozen=True)
class Work:
    """A loop inside of a stage: what it does, units done of how many, units a second (None: not known yet)."""

    what: str
    done: int
    total: int
    rate: float | None


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        key: the run's key, or of a job that failed before it was known another one.
        name: as `dwbench run` says it; `label`, `dataset`, `model`: as in its record.
        state: `waiting` is nowhere on disk: it is a job of which nothing was written.
        known: there was a record of this run when the sweep began, so most likely it takes no time.
        computed: at least one stage was not in the store.
        began: when, in seconds since 1970; `seconds`: how long until `written`, or till it was over.
        stage: the innermost stage that is being built or waited for; `doing` its event as in `Progress.stage`.
        work: the loop it is in.
        error, error_file: of a failed one: its line, and the file that has more.
        metrics: value of each, of one that is done.
    """

    key: str
    name: str
    label: str
    dataset: str
    model: str
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    known: bool = False
    computed: bool = False
    began: float = 0.0
    seconds: float = 0.0
    written: float = 0.0
    stage: str | None = None
    doing: str | None = None
    work: Work | None = None
    error: str | None = None
    error_file: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """A sweep as its folder says it.

    Attributes:
        command: what was called; the same again goes on where it stopped.
        results: the folder of its records, absolute.
        began, ended: seconds since 1970; `ended` None: not yet, or killed.
        outcome: in words, of one that has ended by itself.
        jobs: in the order of the sweep.
        alive: its process lives. Not in the file.
    """

    command: str
    results: str
    host: str
    pid: int
    began: float
    jobs: tuple[Job, ...]
    ended: float | None = None
    outcome: str | None = None
    alive: bool = False


_SWEEP, _JOB = TypeAdapter(Sweep), TypeAdapter(Job)


class Told:
    """Writes JSON where it can; where it can't says so once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said = False

    def write(self, path: Path, data: object) -> bool:
        """Whether it could."""
        try:
            write_json(path, data)
        except (OSError, ValueError) as error:  # ValueError: a name of bytes that are no text, a number that is none
            self.failed(path, error)
            return False
        return True

    def failed(self, path: Path, error: OSError | ValueError) -> None:
        if not self._said:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            self._say(f"status can't be written, the run goes on: {path.parent}: {why}")
        self._said = True


@contextmanager
def watched(
    folder: Path, command: str, results: Path, jobs: Sequence[Job], say: Callable[[str], None]
) -> Iterator[Path | None]:
    """Tell of a sweep while the block runs: the folder for its jobs, None where none can be made.

    Takes away what the same command left before and the oldest of the sweeps that have ended.
    """
    told = Told(say)
    began = time.time()
    own = folder / f"{time.strftime('%Y%m%dT%H%M%S', time.localtime(began))}-{os.getpid()}"
    sweep = Sweep(command, str(results.absolute()), socket.gethostname(), os.getpid(), began, tuple(jobs))
    lock = _begin(folder, own, sweep, told)
    if lock is None:
        yield None
        return
    outcome = "done"
    try:
        yield own
    except BaseException as error:
        outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else f"ended by {type(error).__name__}"
        raise
    finally:
        _end(own, replace(sweep, ended=time.time(), outcome=outcome), told)
        lock.release()


def _begin(folder: Path, own: Path, sweep: Sweep, told: Told) -> filelock.BaseFileLock | None:
    """Make the sweep's folder; the lock in it, which is held, or None where it can't be made."""
    lock = filelock.FileLock(own / LOCK)
    try:
        _forget(folder, sweep.command)
        own.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        write_json(own / SWEEP, _plain(sweep))
    except (OSError, ValueError) as error:  # also filelock's own
        told.failed(own / SWEEP, error)
        lock.release()
        return None
    return lock


def _end(own: Path, sweep: Sweep, told: Told) -> None:
    """Write that the sweep is over, and how. Where all is done, put what is known of the jobs into that file and delete
    theirs, so that of thousands of runs one file stays; who interrupts it wants no waiting."""
    found = read(own) if sweep.outcome == "done" else None
    written = told.write(own / SWEEP, _plain(replace(found or sweep, ended=sweep.ended, outcome=sweep.outcome)))
    if written and found is not None:
        for path in own.glob(f"{JOB}*.json"):
            with suppress(OSError):  # what stays says the same again
                path.unlink()


def _plain(sweep: Sweep) -> dict[str, object]:
    return {name: value for name, value in asdict(sweep).items() if name != "alive"}


def _forget(folder: Path, command: str) -> None:
    """Delete what sweeps left that are over: those that the same command began, and all others but the last `KEPT`."""
    over = [(path, sweep) for path, sweep in _planned(folder) if not sweep.alive]
    others = [path for path, sweep in over if sweep.command != command]
    for path in [path for path, sweep in over if sweep.command == command] + others[: -KEPT or None]:
        shutil.rmtree(path, ignore_errors=True)


class Watch:
    """A job's own file, kept up to date: the `Progress` of its stages, which it passes on to `shown`."""

    def __init__(self, folder: Path, job: Job, shown: Progress, say: Callable[[str], None]) -> None:
        self._path = folder / f"{JOB}{job.key}.json"
        self._told = Told(say)
        self._shown = shown
        self._open: list[str] = []
        self._last = 0.0
        self._clock = time.perf_counter()
        self._job = replace(job, state="running", began=time.time())
        self._write()

    def stage(self, name: str, event: str) -> None:
        self._shown.stage(name, event)
        if event == "start":
            self._open.append(name)
        elif event == "done":
            self._open.pop()
        inner = name if event in ("wait", "damaged") else self._open[-1] if self._open else None
        computed = self._job.computed or event == "start"
        self._job = replace(self._job, stage=inner, doing=event, work=None, computed=computed)
        self._write()

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Advance]:
        outer, begin, done = self._job.work, time.perf_counter(), 0

        def tell(advance: Advance, units: int) -> None:
            nonlocal done
            advance(units)
            done += units
            now = time.perf_counter()
            if now - self._last >= EVERY_SECONDS:
                rate = done / (now - begin) if now > begin else None
                self._job = replace(self._job, work=Work(what, done, total, rate))
                self._write()

        with self._shown.track(what, total) as advance:
            self._job = replace(self._job, work=Work(what, 0, total, None))
            yield lambda units: tell(advance, units)
        self._job = replace(self._job, work=outer)

    def done(self, metrics: Mapping[str, float | None]) -> None:
        """The job is over and has a record with these metrics."""
        known = {name: value for name, value in metrics.items() if value is not None}
        self._job = replace(self._job, state="done", stage=None, doing=None, work=None, metrics=known)
        self._write()

    def failed(self, error: str, where: Path) -> None:
        """The job is over; its error is in the file `where`."""
        self._job = replace(self._job, state="failed", error=error, error_file=str(where))
        self._write()

    def _write(self) -> None:
        self._last = time.perf_counter()
        self._job = replace(self._job, seconds=self._last - self._clock, written=time.time())
        self._told.write(self._path, asdict(self._job))


def folder_beside(store: Path) -> Path:
    """Where sweeps with that store tell of themselves."""
    return store.parent / "status"


def sweeps(folder: Path) -> list[Sweep]:
    """The sweeps in `folder`, in the order in which they began, with what is known of their jobs."""
    found = [(read(path), sweep.alive) for path, sweep in _planned(folder)]
    return [replace(sweep, alive=alive) for sweep, alive in found if sweep is not None]


def _planned(folder: Path) -> list[tuple[Path, Sweep]]:
    """The sweeps in `folder`, in the order in which they began, with their jobs as their own files say."""
    found = []
    for path in folder.glob("*"):
        with suppress(OSError, ValidationError):  # it is being deleted, or another version of dwbench left it
            sweep = _SWEEP.validate_json((path / SWEEP).read_bytes())
            found.append((path, replace(sweep, alive=sweep.ended is None and _lives(path / LOCK))))
    return sorted(found, key=lambda pair: pair[1].began)


def _lives(lock: Path) -> bool:
    """Whether a process holds the lock; also where that can't be found out, as of somebody else's."""
    if not lock.exists():
        return False
    probe = filelock.FileLock(lock)
    try:
        probe.acquire(timeout=0.1)  # longer than another reader holds it
    except OSError:  # filelock's Timeout too
        return True
    probe.release()
    return False


def read(own: Path) -> Sweep | None:
    """The sweep in its folder, `alive` left out; None where it can't be read: it is being deleted, or another version
    of dwbench left it."""
    return Reader(own).read()


class Reader:
    """Reads the sweep in a folder again and again: what has not changed, and a job that is over, once."""

    def __init__(self, own: Path) -> None:
        self._own = own
        self._stamps: dict[str, tuple[int, int, int]] = {}
        self._sweep: Sweep | None = None
        self._known: dict[str, bool] = {}  # by the key of each planned job
        self._begun: dict[str, Job] = {}
        self._over: set[str] = set()  # names of files

    def read(self) -> Sweep | None:
        """As the function `read`."""
        try:
            # In this order: jobs are in the sweep's file before their own files are deleted.
            changed = self._changed_jobs()
            self._read_sweep()
        except (OSError, ValidationError):
            return None
        if self._sweep is None:
            return None
        self._begun |= {job.key: replace(job, known=self._known.get(job.key, False)) for job in changed}
        planned = (self._begun.get(job.key, job) for job in self._sweep.jobs)
        # What is not planned failed before its run's key was known.
        others = (job for key, job in self._begun.items() if key not in self._known)
        return replace(self._sweep, jobs=(*planned, *others))

    def _read_sweep(self) -> None:
        content = self._changed(SWEEP)
        if content is not None:
            self._sweep = _SWEEP.validate_json(content)
            self._known = {job.key: job.known for job in self._sweep.jobs}

    def _changed_jobs(self) -> list[Job]:
        names = set(os.listdir(self._own)) - self._over  # noqa: PTH208  thousands of paths would take longer
        found = []
        for name in sorted(name for name in names if name.startswith(JOB)):
            with suppress(FileNotFoundError):  # the sweep has ended meanwhile
                content = self._changed(name)
                if content is not None:
                    job = _JOB.validate_json(content)
                    found.append(job)
                    if job.state in OVER:
                        self._over.add(name)
        return found

    def _changed(self, name: str) -> bytes | None:
        """The content of a file of the folder; None where it is as it was."""
        path = self._own / name
        stat = path.stat()
        stamp = stat.st_mtime_ns, stat.st_ino, stat.st_size
        if self._stamps.get(name) == stamp:
            return None
        content = path.read_bytes()
        self._stamps[name] = stamp
        return content
