"""A slot that waits: what it uses meanwhile is held against what waiting takes on this machine."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from executor.pool import stock
from executor.pool.stock import Waiting
from executor.pool.supervisor import _PATROL_SECONDS
from executor.sandbox.cgroup import Usage
from executor.sandbox.config import ContainerRequest
from executor.sandbox.slot import make_folders, open_slot
from tests.fakes.clock import Clock
from tests.fakes.engine import FakeEngine, Worker
from tests.unit.executor.sandbox.test_config import CONFIG


def idle(_worker: Worker) -> None:
    """Gets no job."""


def waiting_slot(engine: FakeEngine, folder: Path, *, runtime: str = "runc") -> Waiting:
    make_folders(folder)
    config = replace(CONFIG, runtime=runtime)
    slot = open_slot(
        engine,
        ContainerRequest(name="n", config=config, folder=folder, labels=()),
        users=folder / "users.lock",
        kind="script",
        preload=True,
        lease_seconds=60,
        cancelled=lambda: False,
    )
    return stock.record_ready(engine, slot)


@dataclass
class Ticking(Clock):
    """A clock that moves where somebody sleeps."""

    def __post_init__(self) -> None:
        super().__init__()

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def monotonic(self) -> float:
        return self.now


@pytest.mark.usefixtures("visible")
@pytest.mark.parametrize(
    ("runtime", "rate", "then", "fault"),
    [
        ("runc", 0.0, 0.0, None),
        ("runc", 0.001, 0.001, "cpu"),  # a little at every look is as much as all of it at once
        ("runsc", 0.002, 0.002, None),
        ("runsc", 0.008, 0.008, None),  # a machine that takes four times as long for everything
        ("runsc", 0.008, 0.05, "cpu"),
        ("runsc", 0.002, 0.02, "cpu"),
    ],
)
def test_what_a_slot_uses_while_it_waits_is_held_against_what_waiting_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, rate: float, then: float, fault: str | None
) -> None:
    """GVisor's own threads never rest: what they use is measured when the container is ready."""
    engine, clock, used = FakeEngine(idle), Ticking(), [1.0]
    monkeypatch.setattr(stock, "time", clock)
    monkeypatch.setattr(stock, "read_cpu_seconds", lambda _: used[0] + rate * clock.now)
    waiting, found = waiting_slot(engine, tmp_path, runtime=runtime), None
    for _ in range(100):
        clock.advance(_PATROL_SECONDS)
        used[0] += (then - rate) * _PATROL_SECONDS
        found = found or stock.find_fault(engine, waiting, lease_seconds=600, ask_engine=False)
    assert found == fault
    waiting.slot.shut()


@pytest.mark.parametrize(("used", "fault"), [(0.004, None), (0.006, "cpu"), (None, "cpu")])
def test_where_the_kernel_cannot_be_seen_the_engine_says_what_a_slot_used(
    tmp_path: Path, used: float | None, fault: str | None
) -> None:
    engine = FakeEngine(idle)
    engine.used = lambda: Usage(cpu_seconds=1.0)
    waiting = waiting_slot(engine, tmp_path)
    engine.used = lambda: Usage(cpu_seconds=None if used is None else 1.0 + used)
    assert stock.find_fault(engine, waiting, lease_seconds=600, ask_engine=False) == fault
    waiting.slot.shut()


@pytest.mark.usefixtures("visible")
def test_what_a_slot_has_used_is_recorded_when_its_last_thread_sleeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = itertools.count(1)
    monkeypatch.setattr(stock, "is_asleep", lambda _: next(asked) == 3)
    monkeypatch.setattr(stock, "read_cpu_seconds", lambda _: float(next(asked)))
    waiting = waiting_slot(FakeEngine(idle), tmp_path)
    assert waiting.cpu_seconds == 4.0
    waiting.slot.shut()


@pytest.mark.usefixtures("visible")
def test_a_slot_that_never_sleeps_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stock, "_SETTLE_SECONDS_MAX", 0.1)
    monkeypatch.setattr(stock, "is_asleep", lambda _: False)
    waiting_slot(FakeEngine(idle), tmp_path).slot.shut()
