"""A sweep's status in lines: for `dwbench status`, and kept up to date on the terminal of `dwbench run`."""

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dwbench.report.formats import arrow
from dwbench.report.str_ratio import CHOOSES_NOTHING
from dwbench.status import Job, Sweep, read

if TYPE_CHECKING:
    from rich.console import RenderableType

FAILED_SHOWN = 5
BAR = 20
"""Characters of a bar."""


class Line(NamedTuple):
    """A line and rich's style for it."""

    text: str
    style: str = ""


def lines(sweep: Sweep, now: float) -> list[Line]:
    """What is told of a sweep at the time `now`, in seconds since 1970."""
    told = [Line(sweep.command, "bold"), Line(f"  {_state(sweep, now)}"), Line(f"  {counts(sweep)}")]
    if sweep.alive:
        for job in _in(sweep, "running"):
            told += _running(job, now)
    elif len(_in(sweep, "done")) < len(sweep.jobs):
        told.append(Line("  to go on, give the same command again"))
    for where, best in _best(sweep.jobs).items():
        told.append(Line(f"  best{' so far' if sweep.alive else ''}  {where}", "bold"))
        told += [Line(f"    {text}") for text in best]
    failed = _in(sweep, "failed")
    for job in failed[:FAILED_SHOWN]:
        told += [Line(f"  failed  {job.name}: {job.error}", "red"), Line(f"    {job.error_file}")]
    if len(failed) > FAILED_SHOWN:
        told.append(Line(f"    and {len(failed) - FAILED_SHOWN} more in {Path(sweep.results) / 'failed'}"))
    return told


def counts(sweep: Sweep) -> str:
    """`3 done, 1 running, 0 failed, 7 waiting of 11`; of a sweep that is over what was running has stopped."""
    running, rest = ("running", "waiting") if sweep.alive else ("stopped", "not begun")
    states = {"done": "done", "running": running, "failed": "failed", "waiting": rest}
    parts = [f"{len(_in(sweep, state))} {word}" for state, word in states.items()]
    return f"{', '.join(parts)} of {len(sweep.jobs)}"


def seconds_left(sweep: Sweep, now: float) -> float | None:
    """Seconds that the rest of a running sweep will take; None where nothing is known of that yet.

    A job takes as long as those of this sweep that are done and computed something did on average. Those that had a
    record when the sweep began find their stages in the store and take no time. As many go on at once as now.
    """
    took = [job.seconds for job in sweep.jobs if job.state == "done" and job.computed]
    running = [job for job in _in(sweep, "running") if job.computed or not job.known]
    waiting = [job for job in _in(sweep, "waiting") if not job.known]
    if not running and not waiting:
        return 0.0
    if not took:
        return None
    mean = sum(took) / len(took)
    work = len(waiting) * mean + sum(max(0.0, mean - (now - job.began)) for job in running)
    return work / max(1, len(_in(sweep, "running")))


def span(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def live(own: Path) -> Iterator[None]:
    """Show the sweep in the folder `own` on standard error, which is a terminal, while the block runs; then nothing is
    left of it."""
    from rich.console import Console
    from rich.live import Live

    def shown() -> "RenderableType":
        sweep = read(own)
        height = max(4, shutil.get_terminal_size().lines - 1)
        return "" if sweep is None else _cut(lines(replace(sweep, alive=True), time.time())[:height])

    # Once a second: what is drawn more often takes time from what is measured. Standard output is left alone: it may
    # go elsewhere.
    screen = Console(stderr=True)
    with Live(get_renderable=shown, console=screen, refresh_per_second=1, transient=True, redirect_stdout=False):
        yield


def last(own: Path) -> None:
    """Leave on standard error, which is a terminal, how the sweep in the folder `own` ended."""
    from rich.console import Console

    sweep = read(own)
    if sweep is not None:
        Console(stderr=True).print(_cut(lines(sweep, time.time())))


def _cut(told: Sequence[Line]) -> "RenderableType":
    """The lines, cut at the terminal's right edge."""
    from rich.console import Group
    from rich.text import Text

    return Group(*(Text(line.text, line.style, no_wrap=True, overflow="ellipsis") for line in told))


def _in(sweep: Sweep, state: str) -> list[Job]:
    return [job for job in sweep.jobs if job.state == state]


def _state(sweep: Sweep, now: float) -> str:
    if sweep.ended is not None:
        how = "over" if sweep.outcome == "done" else sweep.outcome
        ago = f", {span(now - sweep.ended)} ago" if now - sweep.ended >= 60 else ""
        return f"{how} after {span(sweep.ended - sweep.began)}{ago}"
    if not sweep.alive:
        return f"killed: process {sweep.pid} on {sweep.host} is gone"
    left = seconds_left(sweep, now)
    rest = "time left not known before a run is done" if left is None else f"about {span(left)} left"
    return f"running for {span(now - sweep.began)}, {rest} (process {sweep.pid} on {sweep.host})"


def _running(job: Job, now: float) -> list[Line]:
    """A running job, and the stage and loop that it is in."""
    told = [Line(f"  running  {job.name}  {span(now - job.began)}", "cyan")]
    if job.stage is not None:
        waits = ": another process builds it" if job.doing == "wait" else ""
        told.append(Line(f"    {job.stage}{waits}{_work(job, now)}"))
    return told


def _work(job: Job, now: float) -> str:
    work = job.work
    if work is None or not work.total:
        return ""
    full = min(BAR, math.floor(BAR * work.done / work.total))
    told = f": {work.what} {'━' * full}{'·' * (BAR - full)} {work.done:,}/{work.total:,}"
    if not work.rate:
        return told
    left = max(0.0, (work.total - work.done) / work.rate - (now - job.written))
    return f"{told}, {work.rate:.2g}/s, {span(left)} left"


def _best(jobs: Sequence[Job]) -> dict[str, list[str]]:
    """For each data set and model the best run by every metric of which it is known whether more is better; of the
    selectors: `full` and `zero_shot` choose nothing."""
    found: dict[str, dict[str, Job]] = {}
    for job in jobs:
        if job.state != "done" or job.label in CHOOSES_NOTHING:
            continue
        best = found.setdefault(f"{job.dataset}, {job.model}", {})
        for metric, value in job.metrics.items():
            if arrow(metric) and (metric not in best or _better(metric, value, best[metric].metrics[metric])):
                best[metric] = job
    return {
        where: [f"{metric} {arrow(metric)} {job.metrics[metric]:.4g}  {job.name}" for metric, job in best.items()]
        for where, best in found.items()
        if best
    }


def _better(metric: str, value: float, than: float) -> bool:
    return value > than if arrow(metric) == "↑" else value < than
