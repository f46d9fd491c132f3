"""What a stage cost: exclusive seconds, tokens, model FLOP, peak memory.

A `Meter` belongs to one stage while it is built. Its clock is monotonic, stops while a nested stage runs, and
synchronises CUDA at both ends. Imports, weight loading, waiting for another process and a warm-up batch are booked
apart (`Meter.apart`), because they say nothing about the method.
"""

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Cost of one stage, or of several added up.

    Attributes:
        seconds: exclusive wall-clock seconds of the work itself.
        forward_tokens: tokens that passed forward through a model, prompts and generated ones alike.
        backward_tokens: tokens that passed backward.
        generated_tokens: tokens decoded one at a time; all but each answer's last are part of `forward_tokens`.
        forward_calls: sequences passed forward.
        backward_calls: sequences passed backward.
        flop: model FLOP (2 a weight and token forward, attention included).
        peak_bytes: highest memory seen in the stage: CUDA's allocator on a GPU, the resident set otherwise.
        apart: seconds kept out of `seconds`, by what they went into (`load`, `import`, `wait`, `warmup`, `store`).
    """

    seconds: float = 0.0
    forward_tokens: int = 0
    backward_tokens: int = 0
    generated_tokens: int = 0
    forward_calls: int = 0
    backward_calls: int = 0
    flop: float = 0.0
    peak_bytes: int = 0
    apart: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: "Cost") -> "Cost":
        apart = {name: self.apart.get(name, 0.0) + other.apart.get(name, 0.0) for name in {*self.apart, *other.apart}}
        return Cost(
            seconds=self.seconds + other.seconds,
            forward_tokens=self.forward_tokens + other.forward_tokens,
            backward_tokens=self.backward_tokens + other.backward_tokens,
            generated_tokens=self.generated_tokens + other.generated_tokens,
            forward_calls=self.forward_calls + other.forward_calls,
            backward_calls=self.backward_calls + other.backward_calls,
            flop=self.flop + other.flop,
            peak_bytes=max(self.peak_bytes, other.peak_bytes),
            apart=apart,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Cost":
        return cls(**data)


def _synchronize() -> None:
    # Not imported here: a run that finds everything in the store never needs torch.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _reset_peak() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # not Linux, or not allowed: the peak is then the process's own since its start


def _peak() -> int:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


class Meter:
    """The running clock and counters of one stage. Start with `running()`."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._since: float | None = None
        self._counts: dict[str, float] = {}
        self._apart: dict[str, float] = {}
        self._apart_inside = 0.0  # seconds of the blocks inside the open `apart` block
        self._peak = 0

    @contextmanager
    def running(self) -> Iterator["Meter"]:
        """Let the clock run inside the block."""
        self._start()
        try:
            yield self
        finally:
            self._stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock inside the block (a nested stage has its own)."""
        was_running = self._since is not None
        if was_running:
            self._stop()
        try:
            yield
        finally:
            if was_running:
                self._start()

    @contextmanager
    def apart(self, what: str) -> Iterator[None]:
        """Book the block's seconds under `what` and not as the stage's own. A block in it has its own seconds."""
        with self.paused():
            outer, self._apart_inside = self._apart_inside, 0.0
            start = time.perf_counter()
            try:
                yield
            finally:
                _synchronize()
                spent = time.perf_counter() - start
                self._apart[what] = self._apart.get(what, 0.0) + spent - self._apart_inside
                self._apart_inside = outer + spent

    def count(
        self,
        *,
        forward_tokens: int = 0,
        backward_tokens: int = 0,
        generated_tokens: int = 0,
        forward_calls: int = 0,
        backward_calls: int = 0,
        flop: float = 0.0,
    ) -> None:
        """Add to the counters (units as in `Cost`)."""
        amounts = locals()
        for name in amounts.keys() - {"self"}:
            self._counts[name] = self._counts.get(name, 0) + amounts[name]

    def cost(self) -> Cost:
        """What has been spent so far."""
        flop = float(self._counts.get("flop", 0.0))
        whole = {name: int(n) for name, n in self._counts.items() if name != "flop"}
        return Cost(seconds=self._seconds, flop=flop, peak_bytes=self._peak, apart=dict(self._apart), **whole)

    def _start(self) -> None:
        _synchronize()
        _reset_peak()
        self._since = time.perf_counter()

    def _stop(self) -> None:
        if self._since is None:  # Ctrl-C came while the clock was stopped or started
            return
        _synchronize()
        self._seconds += time.perf_counter() - self._since
        self._since = None
        self._peak = max(self._peak, _peak())
