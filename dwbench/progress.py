"""What a person sees while something runs: bars with rate and time left on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

Advance = Callable[[int], None]


class Progress(Protocol):
    """Where stages and long loops report to."""

    def stage(self, name: str, event: str) -> None:
        """`event` is `start`, `done`, `stored`, `wait` (another process builds it) or `damaged` (it, or what it
        used, is stored but not whole: it is built again)."""

    def track(self, what: str, total: int) -> AbstractContextManager[Advance]:
        """A context manager that gives a function to be called with the number of units just done."""


def per_second(rate: float) -> str:
    """`0.41/s`, `1,250/s`."""
    return f"{rate:,.0f}/s" if rate >= 99.5 else f"{rate:.2g}/s"


class Quiet:
    """Says nothing."""

    def stage(self, name: str, event: str) -> None:
        return

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Advance]:
        yield lambda units: None


class Lines:
    """Plain lines on `write`, at most one every `every` seconds for each loop."""

    def __init__(self, write: Callable[[str], None], every: float = 20.0) -> None:
        self._write = write
        self._every = every

    def stage(self, name: str, event: str) -> None:
        if event != "done":
            self._write(f"  {name}: {event}")

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Advance]:
        begin = said = time.perf_counter()
        done = 0

        def advance(units: int) -> None:
            nonlocal done, said
            done += units
            now = time.perf_counter()
            if now - said >= self._every:
                said = now
                left = f", {(now - begin) / done * (total - done):.0f} s left" if done else ""
                self._write(f"  {what}: {done}/{total}, {per_second(done / (now - begin))}{left}")

        yield advance
        if total:
            self._write(f"  {what}: {done}/{total} in {time.perf_counter() - begin:.1f} s")


class Bars:
    """Rich bars with stage, rate and time left; they vanish when done and leave a line."""

    def stage(self, name: str, event: str) -> None:
        from rich.console import Console

        if event != "done":
            Console(stderr=True).print(f"  [bold]{name}[/]: {event}", highlight=False)

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Advance]:
        from rich import progress as bars
        from rich.console import Console

        columns = (
            bars.TextColumn("  {task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            _rate_column(),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
        )
        with bars.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
            task = shown.add_task(what, total=total)
            yield lambda units: shown.advance(task, units)


def _rate_column() -> "ProgressColumn":
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(per_second(task.speed) if task.speed else "")

    return Rate()
