"""When a job is idle, on machines of any speed: from clocks and counters that the test moves."""

import itertools
import random

import pytest

from executor.sandbox.idleness import IdleClock

LOOK = 0.25


def ended_after(idle: IdleClock, rates: "list[tuple[float, float]]", *, seconds: float) -> float | None:
    """Return when a job is found idle that uses the CPU at these rates, each from a time on; None if it is not."""
    cpu = 5.0  # what a warm container had used before its launch is nobody's sign of life
    for number in itertools.count(1):
        now = number * LOOK
        if now > seconds:
            return None
        cpu += next(rate for since, rate in reversed(rates) if since <= now) * LOOK
        idle.record_cpu(now, cpu)
        if idle.is_over:
            return now
    return None


def over_at(idle: IdleClock, readings: list[tuple[float, float]]) -> bool:
    """Return whether a job is found idle at the last of some readings: when, and of what CPU time."""
    for now, cpu_seconds in readings:
        idle.record_cpu(now, cpu_seconds)
    return idle.is_over


def clock(limit: float, *, cpus: float = 1.0) -> IdleClock:
    return IdleClock(0.0, limit_seconds=limit, cpus=cpus)


@pytest.mark.parametrize("limit", [0.5, 1.0, 4.0, 30.0, 300.0])
@pytest.mark.parametrize("rate", [0.0, 0.001, 0.008])
def test_a_job_that_sleeps_is_ended_at_its_limit_also_on_a_slow_machine(limit: float, rate: float) -> None:
    ended = ended_after(clock(limit), [(0, rate)], seconds=limit + 10)
    assert ended is not None
    assert limit < ended <= limit + 3 * LOOK


@pytest.mark.parametrize("limit", [0.5, 1.0, 4.0, 30.0, 300.0])
@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_a_job_that_computes_at_two_hundredths_of_a_core_is_not_idle(limit: float, rate: float) -> None:
    assert ended_after(clock(limit), [(0, rate)], seconds=20 * limit) is None


def test_what_wakes_for_longer_than_one_look_explains_is_no_sign_of_life() -> None:
    """Seen 2026-11 on a slow machine: 8 ms in one look a second, where 2.5 ms had counted as life."""
    assert over_at(clock(2.0), [(n * LOOK, (n // 4) * 0.008) for n in range(1, 12)])


@pytest.mark.parametrize(("burst", "alive"), [(0.04, False), (0.08, True)])
def test_time_that_is_used_at_once_is_a_sign_of_life_beyond_what_waking_takes(burst: float, alive: bool) -> None:
    readings = [(0.0, 0.0), (30.0, 0.0), (30.25, burst)]
    assert not over_at(clock(60.0), readings)
    assert over_at(clock(60.0), [*readings, (61.0, burst)]) != alive


def test_a_job_that_computes_now_and_then_is_measured_from_when_it_last_did() -> None:
    ended = ended_after(clock(10.0), [(0, 0.0), (7, 1.0), (8, 0.0)], seconds=60)
    assert ended is not None
    assert 17.5 <= ended <= 18.5


def test_a_job_that_is_throttled_to_less_than_the_share_is_not_idle() -> None:
    assert ended_after(clock(4.0, cpus=0.01), [(0, 0.01)], seconds=60) is None
    assert ended_after(clock(4.0, cpus=0.01), [(0, 0.001)], seconds=60) is not None


def test_looks_that_come_late_change_nothing() -> None:
    dice = random.Random(7)
    for rate, idle_expected in ((0.008, True), (0.02, False)):
        idle, now, over = clock(30.0), 0.0, False
        while now < 200:
            now += dice.uniform(0.2, 9.0)  # a host that is starved looks when it can
            over = over or over_at(idle, [(now, rate * now)])
        assert over == idle_expected


def test_a_sign_from_outside_starts_the_time_anew_and_the_longest_is_kept() -> None:
    idle = clock(10.0)
    assert not over_at(idle, [(0.0, 0.0), (9.0, 0.0)])
    idle.record_sign(9.0)
    assert not over_at(idle, [(18.5, 0.0)])
    assert over_at(idle, [(19.5, 0.0)])
    assert idle.longest == 10.5


@pytest.mark.parametrize("cpu_seconds", [0.0, 10.0])
def test_what_a_job_did_before_the_first_reading_is_not_held_against_it(cpu_seconds: float) -> None:
    """As where an engine that counts answers late."""
    idle = clock(5.0)
    assert not idle.is_over
    assert not over_at(idle, [(10.3, cpu_seconds), (15.0, cpu_seconds)])
    assert over_at(idle, [(15.5, cpu_seconds)])
