"""A sweep's status in lines: for `dwbench status`, and kept up to date on the terminal of `dwbench run`."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dwbench.progress import per_second
from dwbench.report.formats import arrow
from dwbench.report.str_ratio import CHOOSES_NOTHING
from dwbench.status import OVER, Job, Reader, Sweep, read

if TYPE_CHECKING:
    from rich.console import RenderableType

FAILED_SHOWN = 5
RUNNING_SHOWN = 8
BAR = 20
"""Characters of a bar."""


class Line(NamedTuple):
    """A line and rich's style for it."""

    text: str
    style: str = ""


def lines(sweep: Sweep, now: float) -> list[Line]:
    """What is told of a sweep at the time `now`, in seconds since 1970."""
    told = [Line(sweep.command, "bold"), Line(f"  {_state(sweep, now)}"), Line(f"  {counts(sweep)}")]
    if not sweep.alive and len(_in(sweep, "done")) < len(sweep.jobs):
        told.append(Line("  to go on, give the same command again"))
    failed = _in(sweep, "failed")
    for job in failed[:FAILED_SHOWN]:
        told += [Line(f"  failed  {job.name}: {job.error}", "red"), Line(f"    {job.error_file}")]
    if len(failed) > FAILED_SHOWN:
        told.append(Line(f"    and {len(failed) - FAILED_SHOWN} more in {Path(sweep.results) / 'failed'}"))
    running = _in(sweep, "running") if sweep.alive else []
    for job in running[:RUNNING_SHOWN]:
        told += _running(job, now)
    if len(running) > RUNNING_SHOWN:
        told.append(Line(f"    and {len(running) - RUNNING_SHOWN} more"))
    for where, best in _best(sweep.jobs).items():
        told.append(Line(f"  best{' so far' if sweep.alive else ''}  {where}", "bold"))
        told += [Line(f"    {text}") for text in best]
    return told


def counts(sweep: Sweep) -> str:
    """`3 done, 1 running, 0 failed, 7 waiting of 11`; of a sweep that is over what was running has stopped."""
    running, rest = ("running", "waiting") if sweep.alive else ("stopped", "not begun")
    states = {"done": "done", "running": running, "failed": "failed", "waiting": rest}
    parts = [f"{len(_in(sweep, state))} {word}" for state, word in states.items()]
    return f"{', '.join(parts)} of {len(sweep.jobs)}"


def seconds_left(sweep: Sweep, now: float) -> float | None:
    """Seconds that the rest of a running sweep will take; None where nothing is known of that.

    A job takes as long as those of this sweep that are done and computed something did on average, and at least as long
    as the loop that it is in says. Those that had a record when the sweep began mostly find their stages in the store
    and take no time; where the store is gone, the waiting ones count by the share of those begun that computed. As many
    go on at once as now. A last job that takes longer than the others did, and is in no loop, is not known to end.
    """
    took = [job.seconds for job in sweep.jobs if job.state == "done" and job.computed]
    running = [job for job in _in(sweep, "running") if job.computed or not job.known]
    share = _share_computed(sweep)
    waiting = sum(share if job.known else 1.0 for job in _in(sweep, "waiting"))
    if not running and not waiting:
        return 0.0
    if not took:
        return None
    mean = sum(took) / len(took)
    rests = [max(0.0, mean - (now - job.began), _loop_left(job, now) or 0.0) for job in running]
    if not waiting and max(rests) == 0:
        return None
    at_once = max(1, len(_in(sweep, "running")))
    return max([(waiting * mean + sum(rests)) / at_once, *rests])


def _share_computed(sweep: Sweep) -> float:
    """Of the jobs that had a record when the sweep began and have begun: the share that had to compute something."""
    begun = [job for job in sweep.jobs if job.known and (job.computed or job.state in OVER)]
    return sum(job.computed for job in begun) / len(begun) if begun else 0.0


def _loop_left(job: Job, now: float) -> float | None:
    """Seconds until the loop that a job is in ends; None where it is in none, or its rate is not known."""
    work = job.work
    if work is None or not work.rate:
        return None
    return max(0.0, (work.total - work.done) / work.rate - (now - job.written))


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

    reader, screen = Reader(own), Console(stderr=True)
    first = reader.read()
    jobs = 0 if first is None else len(first.jobs)

    def shown() -> "RenderableType":
        sweep = reader.read()
        height = max(4, screen.size.height - 1)
        return "" if sweep is None else _cut(lines(replace(sweep, alive=True), time.time())[:height])

    # Once a second, more seldom of more than 1,000 runs: drawing takes time from what is measured. Standard output is
    # left alone: it may go elsewhere.
    often = 1000 / max(1000, jobs)
    with Live(get_renderable=shown, console=screen, refresh_per_second=often, transient=True, redirect_stdout=False):
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
    rest = "time left not known" if left is None else f"about {span(left)} left"
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
    left = _loop_left(job, now)
    return told if not work.rate or left is None else f"{told}, {per_second(work.rate)}, {span(left)} left"


def _best(jobs: Sequence[Job]) -> dict[str, list[str]]:
    """For each data set and model the best run by every metric of which it is known whether more is better; of the
    selectors: `full` and `zero_shot` choose nothing."""
    found: dict[str, dict[str, Job]] = {}
    # Asked once for each metric: there may be thousands of jobs.
    better = {metric: arrow(metric) for metric in {metric for job in jobs for metric in job.metrics}}
    for job in jobs:
        if job.state != "done" or job.label in CHOOSES_NOTHING:
            continue
        best = found.setdefault(f"{job.dataset}, {job.model}", {})
        for metric, value in job.metrics.items():
            sign = {"↑": 1, "↓": -1}.get(better[metric], 0)
            if sign and (metric not in best or sign * value > sign * best[metric].metrics[metric]):
                best[metric] = job
    return {
        where: [f"{metric} {better[metric]} {job.metrics[metric]:.4g}  {job.name}" for metric, job in best.items()]
        for where, best in found.items()
        if best
    }
