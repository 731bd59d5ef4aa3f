"""Whose counters are read: the cgroup where it is the container's, else the engine's, else none."""

from typing import Any

import pytest

from executor.errors import HostError
from executor.sandbox import counters as counters_module
from executor.sandbox.cgroup import Usage, UsageFiles
from executor.sandbox.counters import Counters
from tests.fakes.clock import Clock
from tests.fakes.engine import FakeEngine

FILES = UsageFiles(memory_peak="", memory_events="", pids_peak="", pids_events="", cpu="", cpu_unit=1e9, process_1="")


class AskedClock(Clock):
    """Time that questions to the engine take, and when they were asked."""

    def __init__(self, *, takes: float = 0.0) -> None:
        super().__init__(100.0)
        self.takes = takes
        self.asked: list[float] = []


def counters(clock: AskedClock, engine: Any = None, *, runtime: str = "runc") -> Counters:
    return Counters(engine or FakeEngine(lambda _: None), "c", 7, runtime=runtime, clock=clock)


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
@pytest.mark.parametrize(("runtime", "job"), [("runc", 2.0), ("crun", 2.0), ("runsc", 3.0)])
def test_the_time_of_process_1_is_not_the_jobs_where_the_two_can_be_told_apart(runtime: str, job: float) -> None:
    reading = counters(AskedClock(), runtime=runtime).read()
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
        readings.append(those.read())
        clock.advance(0.25)
    assert clock.asked == [100.0, 101.0, 102.0]
    assert [r.job_cpu_seconds for r in readings if r] == [2.0, 2.0, 2.0]
    assert those.read(last=True) is not None


def test_an_engine_that_is_slow_is_asked_less_often() -> None:
    clock = AskedClock(takes=2.0)
    those = counters(clock, asked(clock, Usage(cpu_seconds=2.0)))
    while clock.now < 120:
        those.read()
        clock.advance(0.25)
    assert clock.asked == [100.0, 110.0]


def test_an_engine_that_does_not_answer_gives_no_reading() -> None:
    clock = AskedClock()
    those = counters(clock, asked(clock, None))
    assert (those.read(), those.read()) == (None, None)
    assert clock.asked == [100.0]
