"""A slot that waits: what it uses meanwhile is held against what waiting takes on this machine."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from executor.pool import stock
from executor.pool.stock import Waiting
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
        kind="script",
        threads=1,
        preload=True,
        lease_seconds=60,
        cancelled=lambda: False,
    )
    return stock.record_ready(slot)


@pytest.mark.usefixtures("visible")
@pytest.mark.parametrize(
    ("runtime", "rate", "fault"),
    [("runc", 0.0, None), ("runc", 0.001, "cpu"), ("runsc", 0.008, None), ("runsc", 0.05, "cpu")],
)
def test_what_a_slot_uses_is_judged_from_look_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, rate: float, fault: str | None
) -> None:
    """GVisor's own threads never rest, so that since the start they have used whatever one likes."""
    engine, clock = FakeEngine(idle), Clock()
    monkeypatch.setattr(stock, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(stock, "read_cpu_seconds", lambda _: 1.0 + rate * clock.now)
    waiting, found = waiting_slot(engine, tmp_path, runtime=runtime), None
    for _ in range(20):
        clock.advance(10.0)
        found = found or stock.find_fault(engine, waiting, lease_seconds=600, ask_engine=False)
    assert found == fault
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
