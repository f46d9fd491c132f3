"""The clock: exclusive, with imports and loading apart."""

import time
from collections.abc import Callable

import pytest

from dwbench.cost import Cost, Meter


def sleep(seconds: float) -> None:
    time.sleep(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that stands still but for calls of the function returned."""
    now = 0.0

    def advance(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("dwbench.cost.time.perf_counter", lambda: now)
    return advance


def test_a_nested_meter_is_not_its_parents_time(clock: Callable[[float], None]) -> None:
    outer, inner = Meter(), Meter()
    with outer.running():
        clock(1.0)
        with outer.paused(), inner.running():
            clock(10.0)
        clock(2.0)
    clock(100.0)
    assert outer.cost().seconds == 3.0
    assert inner.cost().seconds == 10.0


def test_what_is_apart_is_not_in_seconds(clock: Callable[[float], None]) -> None:
    meter = Meter()
    with meter.running():
        clock(1.0)
        with meter.apart("load"):
            clock(10.0)
        with meter.apart("load"):
            clock(5.0)
        with meter.apart("import"):
            clock(0.5)
        clock(2.0)
    assert meter.cost().seconds == 3.0
    assert meter.cost().apart == {"load": 15.0, "import": 0.5}


def test_apart_within_apart_is_counted_once(clock: Callable[[float], None]) -> None:
    meter = Meter()
    with meter.running(), meter.apart("load"):
        clock(1.0)
        with meter.apart("import"):
            clock(10.0)
            with meter.apart("wait"):
                clock(100.0)
        clock(2.0)
        with meter.apart("import"):
            clock(20.0)
    assert meter.cost().seconds == 0.0
    assert meter.cost().apart == {"load": 3.0, "import": 30.0, "wait": 100.0}


def test_the_clock_survives_an_exception(clock: Callable[[float], None]) -> None:
    meter = Meter()

    def fail() -> None:
        with meter.apart("load"):
            clock(10.0)
            raise ValueError("inside")

    with meter.running():
        clock(1.0)
        with pytest.raises(ValueError, match="inside"):
            fail()
        clock(1.0)
    assert meter.cost().seconds == 2.0
    assert meter.cost().apart == {"load": 10.0}


def test_real_time() -> None:
    meter = Meter()
    with meter.running():
        sleep(0.02)
        with meter.apart("load"):
            sleep(0.05)
    assert 0.02 <= meter.cost().seconds < 0.05
    assert meter.cost().apart["load"] >= 0.05


def test_counters_add_up() -> None:
    meter = Meter()
    meter.count(forward_tokens=5, flop=2.0)
    meter.count(forward_tokens=7, generated_tokens=3, flop=0.5, forward_calls=1, backward_tokens=4, backward_calls=2)
    assert meter.cost() == Cost(
        forward_tokens=12, generated_tokens=3, flop=2.5, forward_calls=1, backward_tokens=4, backward_calls=2
    )


def test_costs_add_up_and_peaks_do_not() -> None:
    one = Cost(seconds=1.0, forward_tokens=2, flop=3.0, peak_bytes=4, apart={"load": 5.0})
    other = Cost(seconds=10.0, forward_tokens=20, flop=30.0, peak_bytes=3, apart={"load": 1.0, "import": 2.0})
    both = one + other
    assert both == Cost(seconds=11.0, forward_tokens=22, flop=33.0, peak_bytes=4, apart={"load": 6.0, "import": 2.0})
    assert sum((one, other), Cost()) == both
    assert one + Cost() == one


def test_json_and_back() -> None:
    cost = Cost(seconds=1.5, forward_tokens=2, flop=3.0, peak_bytes=4, apart={"load": 5.0})
    assert Cost.from_json(cost.to_json()) == cost
    with pytest.raises(TypeError):
        Cost.from_json({**cost.to_json(), "second": 1})


def test_peak_memory_is_the_stages_own() -> None:
    meter = Meter()
    with meter.running():
        block = bytearray(64 * 2**20)
        block[::4096] = b"x" * len(block[::4096])
    del block
    assert meter.cost().peak_bytes >= 64 * 2**20


def test_the_peak_is_the_highest_of_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([3, 1])
    monkeypatch.setattr("dwbench.cost._peak", lambda: next(peaks))
    meter = Meter()
    with meter.running(), meter.paused():
        pass
    assert meter.cost().peak_bytes == 3


def test_what_a_device_has_still_to_do_counts_where_it_was_asked_for(
    clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = [100.0]  # by somebody else, before

    def wait() -> None:
        while queued:
            clock(queued.pop())

    monkeypatch.setattr("dwbench.cost._synchronize", wait)
    meter = Meter()
    with meter.running():
        queued.append(1.0)
        with meter.apart("load"):
            queued.append(10.0)
        queued.append(2.0)
    assert meter.cost().seconds == 3.0
    assert meter.cost().apart == {"load": 10.0}


def test_ctrl_c_while_the_clock_starts_again_stays_ctrl_c(
    clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    meter, pressed = Meter(), [KeyboardInterrupt()]

    def press_once() -> None:
        if pressed:
            raise pressed.pop()

    def work() -> None:
        clock(1.0)
        with meter.paused():
            clock(10.0)
            monkeypatch.setattr("dwbench.cost._synchronize", press_once)

    with pytest.raises(KeyboardInterrupt), meter.running():
        work()
    with meter.running():
        clock(2.0)
    assert meter.cost().seconds == 3.0
