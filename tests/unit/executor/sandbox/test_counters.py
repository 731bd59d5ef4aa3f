"""Whose counters are read: the cgroup where it is the container's, else the engine's, else none."""

import threading
import time
from typing import Any

import pytest

from executor.errors import HostError
from executor.sandbox import counters as counters_module
from executor.sandbox.cgroup import Usage, UsageFiles
from executor.sandbox.counters import Counters, Reading
from tests.fakes.clock import Clock, until
from tests.fakes.engine import FakeEngine

FILES = UsageFiles(
    memory_peak="",
    memory_events="",
    pids_peak="",
    pids_events="",
    cpu="",
    cpu_unit=1e9,
    process_1="",
    sockets="",
)


class AskedClock(Clock):
    """Time that questions to the engine take, and when they were asked."""

    def __init__(self, *, takes: float = 0.0) -> None:
        super().__init__(100.0)
        self.takes = takes
        self.asked: list[float] = []


def counters(clock: AskedClock, engine: Any = None, *, guest_kernel: bool = False) -> Counters:
    return Counters(engine or FakeEngine(lambda _: None), "c", 7, guest_kernel=guest_kernel, clock=clock)


def answered(those: Counters) -> Reading | None:
    """Read the counters, and wait for the engine's answer where it is asked."""
    first = those.read()
    until(lambda: those._question is None or not those._question.is_alive())
    return first or (those.read() if those._question is not None else None)


def asked(clock: AskedClock, usage: Usage | None) -> FakeEngine:
    engine = FakeEngine(lambda _: None)

    def used() -> Usage:
        clock.asked.append(clock.now)
        clock.advance(clock.takes)
        if usage is None:
            raise HostError("no answer")
        return usage

    engine.used = used
    return engine


@pytest.fixture
def visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters_module, "find_usage_files", lambda _pid, *, container: FILES)
    monkeypatch.setattr(counters_module, "read_usage", lambda _: Usage(cpu_seconds=3.0))
    monkeypatch.setattr(counters_module, "read_process_1_seconds", lambda _: 1.0)


@pytest.mark.usefixtures("visible")
@pytest.mark.parametrize(("guest_kernel", "job"), [(False, 2.0), (True, 3.0)])
def test_the_time_of_process_1_is_not_the_jobs_where_the_two_can_be_told_apart(guest_kernel: bool, job: float) -> None:
    reading = counters(AskedClock(), guest_kernel=guest_kernel).read()
    assert reading is not None
    assert (reading.usage.cpu_seconds, reading.job_cpu_seconds) == (3.0, job)


@pytest.mark.usefixtures("visible")
def test_where_the_cgroup_is_seen_the_engine_is_not_asked() -> None:
    clock = AskedClock()
    assert counters(clock, asked(clock, Usage())).read() is not None
    assert clock.asked == []


@pytest.mark.usefixtures("visible")
def test_of_a_container_that_is_gone_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters_module, "read_usage", lambda _: Usage())
    assert counters(AskedClock()).read() is None


def test_where_the_cgroup_is_not_seen_the_engine_is_asked_now_and_then() -> None:
    clock = AskedClock()
    those = counters(clock, asked(clock, Usage(cpu_seconds=2.0)))
    readings = []
    for _ in range(9):
        readings.append(answered(those))
        clock.advance(0.25)
    assert clock.asked == [100.0, 101.0, 102.0]
    assert [(r.at, r.job_cpu_seconds) for r in readings if r] == [(at, 2.0) for at in clock.asked]
    assert those.read(last=True) is not None


def test_an_engine_that_is_slow_is_asked_less_often() -> None:
    clock = AskedClock(takes=2.0)
    those = counters(clock, asked(clock, Usage(cpu_seconds=2.0)))
    while clock.now < 120:
        answered(those)
        clock.advance(0.25)
    assert clock.asked == [100.0, 110.0]


@pytest.mark.parametrize("usage", [None, Usage()])
def test_an_engine_that_does_not_answer_or_count_gives_no_reading(usage: Usage | None) -> None:
    clock = AskedClock()
    those = counters(clock, asked(clock, usage))
    assert (answered(those), answered(those)) == (None, None)
    assert clock.asked == [100.0]


def test_nobody_waits_for_an_engine_that_hangs() -> None:
    over, engine = threading.Event(), FakeEngine(lambda _: None)
    engine.used = lambda: (over.wait(60) and Usage(cpu_seconds=2.0)) or Usage()
    those = counters(AskedClock(), engine)
    began = time.monotonic()
    assert (those.read(), those.read()) == (None, None)
    assert time.monotonic() - began < 30
    over.set()
    assert answered(those) is not None
