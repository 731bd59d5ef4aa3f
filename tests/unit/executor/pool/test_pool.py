"""The pool: each slot is given away once, to the same user, and not at all if anything about it changed meanwhile."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.errors import HostError
from executor.pool import callers, removal, stock, supervisor, wire
from executor.pool.client import PoolClient, ask
from executor.pool.stock import PoolClass
from executor.pool.supervisor import Pool, PoolSettings
from executor.sandbox.cgroup import Seal
from executor.sandbox.config import ContainerRequest
from executor.sandbox.engine import ContainerState
from executor.sandbox.intake import Listener
from executor.sandbox.outcome import OutcomeKind
from executor.sandbox.protocol import Launch, Procedure
from executor.sandbox.session import Session, SessionLimits
from executor.sandbox.slot import Slot
from executor.state.home import Home
from executor.state.owner import labels_for
from executor.transfer.quarantine import Quarantine
from tests.fakes.clock import until
from tests.fakes.engine import FakeEngine, Worker
from tests.unit.executor.pool.conftest import SEAL
from tests.unit.executor.sandbox.test_config import CONFIG


def job(worker: Worker) -> None:
    worker.say(type="progress", values={"seed": worker.launch["seed"]})
    worker.finish()


class Bench:
    """A pool that runs, and a caller."""

    def __init__(self, home: Home, engine: FakeEngine) -> None:
        self.home, self.engine = home, engine
        self.said: list[str] = []

    @contextmanager
    def pool(self, *, size: int = 2, lease: float = 60.0, kind: str = "script", starts: int = 2) -> Iterator[Pool]:
        settings = PoolSettings(lease_seconds=lease, starts_max=starts)
        classes = [PoolClass(kind=kind, config=CONFIG, size=size)]
        pool = Pool(self.engine, self.home, classes, settings=settings, say=self.said.append)
        thread = threading.Thread(target=pool.run, daemon=True)
        thread.start()
        try:
            yield pool
        finally:
            pool.stop()
            thread.join(60)
            assert not thread.is_alive()

    def client(self) -> PoolClient:
        return PoolClient(self.home, self.engine, wall_seconds=60)

    def take(self, kind: str = "script") -> Slot | None:
        return self.client().take(kind, CONFIG)


@pytest.fixture
def bench(home: Path) -> Bench:
    return Bench(Home(home), FakeEngine(job))


def ready(pool: Pool, count: int) -> None:
    until(lambda: pool.status()["classes"][0]["ready"] == count)


def use(slot: Slot, folder: Path, engine: FakeEngine, *, seed: int = 7) -> list[Any]:
    """Run a job in a slot and return what it said."""
    heard: list[Any] = []
    folder.mkdir(exist_ok=True)
    session = Session(
        engine,
        slot,
        limits=SessionLimits(wall_seconds=60, idle_seconds=60, log_bytes=1000),
        quarantine=Quarantine(folder, declared={}, bytes_max=0, file_bytes_max=0, files_max=0),
        listener=Listener(on_progress=heard.append),
        cancelled=lambda: False,
    )
    procedure = Procedure(kind="script", params={}, inputs={}, outputs={})
    result = session.run(Launch(procedure=procedure, seed=seed, threads=1, cpu_seconds=60, wall_seconds=60))
    assert result.outcome.kind is OutcomeKind.SUCCEEDED
    assert result.warm
    return heard


def test_a_slot_that_waited_runs_its_job_and_goes(bench: Bench, tmp_path: Path) -> None:
    with bench.pool() as pool:
        ready(pool, 2)
        assert all(worker.prepare["preload"] for worker in bench.engine.workers.values())
        slot = bench.take()
        assert slot is not None
        assert use(slot, tmp_path / "q", bench.engine) == [{"seed": 7}]
        until(lambda: bench.engine.removed == [slot.container])
        until(lambda: not slot.folder.exists())
        ready(pool, 2)
        assert pool.status()["counts"] == {"started": 3, "failed": 0, "hits": 1, "misses": 0, "discarded": 0}
    assert bench.engine.containers == {}
    assert list(bench.home.runs.iterdir()) == []


def test_no_slot_is_given_away_twice(bench: Bench, tmp_path: Path) -> None:
    taken: list[Slot] = []
    with bench.pool(size=4) as pool:
        ready(pool, 4)
        callers = [threading.Thread(target=lambda: taken.append(bench.take())) for _ in range(8)]  # type: ignore[arg-type]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        got = [slot for slot in taken if slot is not None]
        assert len(got) == len({slot.container for slot in got}) >= 4
        for number, slot in enumerate(got):
            use(slot, tmp_path / str(number), bench.engine)


def test_what_nobody_keeps_ready_is_a_miss(bench: Bench) -> None:
    assert bench.take() is None  # no pool at all
    with bench.pool() as pool:
        ready(pool, 2)
        assert bench.take("train") is None
        assert bench.client().take("script", replace(CONFIG, pids=65)) is None
        assert pool.status()["counts"]["misses"] == 2


def test_a_caller_that_dies_takes_its_container_with_it(bench: Bench) -> None:
    with bench.pool() as pool:
        ready(pool, 2)
        slot = bench.take()
        assert slot is not None
        slot.shut()
        slot.lease._stream.close()  # type: ignore[attr-defined]
        until(lambda: bench.engine.removed == [slot.container])


def test_where_the_pool_died_the_caller_removes_its_container(bench: Bench, tmp_path: Path) -> None:
    with bench.pool() as pool:
        ready(pool, 2)
        slot = bench.take()
        assert slot is not None
        slot.lease._stream.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
        until(lambda: bench.engine.removed == [slot.container])
        bench.engine.removed.clear()
        assert slot.lease.end() is True
        assert not slot.folder.exists()


def test_the_owner_of_a_slot_becomes_its_caller(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench.pool() as pool:
        ready(pool, 2)
        slot = bench.take()
        assert slot is not None
        assert (slot.folder / "owner").read_text().split(":")[2] == str(os.getpid())
        slot.shut()
        slot.lease.end()


def test_a_caller_that_lies_about_who_it_is_gets_nothing(bench: Bench) -> None:
    with bench.pool() as pool:
        ready(pool, 2)
        stream = wire.connect(bench.home.pool, seconds=60)
        for owner in ("nobody", f"boot:1:{os.getpid() + 1}:2:3"):
            stream = wire.connect(bench.home.pool, seconds=60)
            wire.send(stream, {"op": "take", "kind": "script", "sandbox_sha256": CONFIG.digest, "owner": owner})
            with pytest.raises(EOFError):
                wire.receive(stream, 4)
        assert pool.status()["counts"]["hits"] == 0


def test_another_user_is_not_answered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench.pool() as pool:
        ready(pool, 2)
        monkeypatch.setattr(callers, "is_same_user", lambda _: False)
        with pytest.raises(HostError, match="does not answer"):
            ask(bench.home, "status", seconds=60)
        assert bench.take() is None


def test_a_pool_of_another_user_is_not_believed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench.pool() as pool:
        ready(pool, 2)
        monkeypatch.setattr(wire, "is_same_user", lambda _: False)
        with pytest.raises(HostError, match="another user's"):
            wire.connect(bench.home.pool, seconds=60)
        assert bench.take() is None
        assert pool.status()["counts"]["hits"] == 0


@pytest.mark.parametrize(
    "packet", [b"{", b"[]", b"{}", b'{"v":2}', b"x" * wire.PACKET_BYTES_MAX, b'{"v":1,"op":"take"}', b'{"v":1}']
)
def test_what_is_no_message_is_dropped_and_the_pool_goes_on(bench: Bench, packet: bytes) -> None:
    with bench.pool() as pool:
        ready(pool, 2)
        with wire.connect(bench.home.pool, seconds=60) as stream:
            stream.sendall(packet)
            assert stream.recv(10) == b""
        answer = ask(bench.home, "status", seconds=60)
        assert answer is not None
        assert answer["pid"] == os.getpid()


def test_files_that_nobody_asked_for_are_closed_and_refused() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader, writer = os.pipe()
    wire.send(here, {"op": "x"}, [writer] * 3)
    os.close(writer)
    with pytest.raises(ValueError, match="more open files"):
        wire.receive(there, 1)
    os.set_blocking(reader, False)
    assert os.read(reader, 1) == b"", "somebody still holds the other end"
    os.close(reader)
    here.close()
    there.close()


def state_with(**change: Any) -> Callable[[FakeEngine, Slot], None]:
    def tamper(engine: FakeEngine, slot: Slot) -> None:
        original = engine.state

        def state(container_id: str) -> ContainerState:
            true = original(container_id)
            return replace(true, **change) if container_id == slot.container else true

        engine.state = state  # type: ignore[method-assign]

    return tamper


def add_file(_engine: FakeEngine, slot: Slot) -> None:
    (slot.folder / "in/left").write_text("x")


def speak(engine: FakeEngine, slot: Slot) -> None:
    engine.workers[slot.container].stdout.sendall(b"x")


def hang_up(engine: FakeEngine, slot: Slot) -> None:
    engine.workers[slot.container].control.close()


TAMPERINGS = [
    (state_with(visitors=1), "visitors"),
    (state_with(running=False), "state"),
    (state_with(started="again"), "state"),
    (state_with(pid=77), "state"),
    (state_with(networks={"bridge": "172.17.0.2"}), "configuration"),
    (state_with(image_id="sha256:" + "0" * 64), "configuration"),
    (state_with(host_config={"Memory": 1}), "configuration"),
    (add_file, "files"),
    (speak, "channels"),
    (hang_up, "channels"),
]


@pytest.mark.parametrize(("tamper", "fault"), TAMPERINGS, ids=[f"{n}-{t[1]}" for n, t in enumerate(TAMPERINGS)])
def test_a_slot_that_was_tampered_with_is_discarded_and_the_next_one_taken(
    bench: Bench, tamper: Callable[[FakeEngine, Slot], None], fault: str
) -> None:
    with bench.pool() as pool:
        ready(pool, 2)
        (shelf,) = pool._shelves.values()
        victim, other = (waiting.slot for waiting in shelf.waiting)
        tamper(bench.engine, victim)
        slot = bench.take()
        assert slot is not None
        assert slot.container == other.container
        until(lambda: victim.container in bench.engine.removed)
        status = pool.status()
        assert (status["counts"]["discarded"], status["discarded_for"]) == (1, {fault: 1})
        slot.shut()
        slot.lease.end()


@pytest.mark.usefixtures("visible")
@pytest.mark.parametrize(
    ("now", "fault"),
    [
        (SEAL, None),
        (None, "state"),
        (replace(SEAL, started="101"), "state"),
        (replace(SEAL, processes=frozenset({"7", "8", "9"})), "processes"),
        (replace(SEAL, processes=frozenset({"7"})), "processes"),
        (replace(SEAL, limits=(("memory.max", "2"), ("freezer.state", "THAWED"))), "limits"),
        (replace(SEAL, limits=(("memory.max", "1"), ("freezer.state", "FROZEN"))), "limits"),
        (replace(SEAL, interfaces=("lo", "eth0")), "interfaces"),
        (replace(SEAL, tmp=(16, 7)), "files"),
    ],
)
def test_a_slot_that_the_kernel_holds_otherwise_than_before_is_discarded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, now: Seal | None, fault: str | None
) -> None:
    with bench.pool(size=1) as pool:
        ready(pool, 1)
        monkeypatch.setattr(stock, "read_seal", lambda _: now)
        slot = bench.take()
        assert (slot is None) == (fault is not None)
        if slot is not None:
            slot.shut()
            slot.lease.end()
        else:
            assert pool.status()["discarded_for"] == {fault: 1}


@pytest.mark.usefixtures("visible")
def test_where_the_kernel_says_everything_the_engine_is_not_asked_on_the_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_PATROL_SECONDS", 60.0)
    with bench.pool(size=1) as pool:
        ready(pool, 1)
        state_with(visitors=1)(bench.engine, next(iter(pool._shelves.values())).waiting[0].slot)
        slot = bench.take()
        assert slot is not None
        slot.shut()
        slot.lease.end()


@pytest.mark.usefixtures("visible")
def test_what_the_engine_says_is_looked_at_on_patrol(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_PATROL_SECONDS", 0.1)
    with bench.pool(size=1) as pool:
        ready(pool, 1)
        victim = next(iter(pool._shelves.values())).waiting[0].slot
        state_with(host_config={"Memory": 1})(bench.engine, victim)
        until(lambda: pool.status()["discarded_for"] == {"configuration": 1})
        until(lambda: victim.container in bench.engine.removed)


def test_a_slot_whose_folder_is_gone_is_discarded(bench: Bench) -> None:
    with bench.pool(size=1) as pool:
        ready(pool, 1)
        victim = next(iter(pool._shelves.values())).waiting[0].slot
        shutil.rmtree(victim.folder / "in")
        assert bench.take() is None
        assert pool.status()["discarded_for"] == {"files": 1}
        until(lambda: victim.container in bench.engine.removed)


def test_a_caller_that_says_nothing_is_dropped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_WORD_SECONDS", 0.2)
    with bench.pool() as pool:
        ready(pool, 2)
        with wire.connect(bench.home.pool, seconds=60) as stream:
            assert stream.recv(10) == b""
        assert ask(bench.home, "status", seconds=60) is not None


@pytest.mark.parametrize(("used_max", "removed_at_once"), [(64, False), (0, True)])
def test_used_containers_wait_while_jobs_run_but_not_too_many_of_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, used_max: int, removed_at_once: bool
) -> None:
    monkeypatch.setattr(removal, "_USED_MAX", used_max)
    monkeypatch.setattr(removal, "_REMOVAL_PATIENCE_SECONDS", 600.0)
    with bench.pool() as pool:
        ready(pool, 2)
        first, second = bench.take(), bench.take()
        assert first is not None
        assert second is not None
        first.shut()
        first.lease.end()
        if removed_at_once:
            until(lambda: bench.engine.removed == [first.container])
        else:
            time.sleep(0.6)
            assert bench.engine.removed == []
        second.shut()
        second.lease.end()
        until(lambda: {first.container, second.container} <= set(bench.engine.removed))


def test_a_container_that_cannot_be_removed_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_RETRY_SECONDS", 0.1)
    original, failures = bench.engine.remove, iter([True, False])

    def remove(container_id: str, *, seconds: float | None = None) -> None:
        if next(failures, False):
            raise HostError("busy")
        original(container_id)

    bench.engine.remove = remove  # type: ignore[method-assign]
    with bench.pool() as pool:
        ready(pool, 2)
        slot = bench.take()
        assert slot is not None
        slot.shut()
        slot.lease.end()
        until(lambda: bench.engine.removed == [slot.container])
        until(lambda: not slot.folder.exists())


def test_a_container_that_the_engine_made_unasked_is_removed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where an answer to a request to create one came too late."""
    monkeypatch.setattr(removal, "_STRAYS_SECONDS", 0.2)
    with bench.pool(size=1) as pool:
        ready(pool, 1)
        labels = labels_for(bench.home, "pool-stray", wall_seconds=60)
        request = ContainerRequest(name="sealed-executor-pool-stray", config=CONFIG, folder=Path("/x"), labels=labels)
        stray = bench.engine.create(request)
        until(lambda: bench.engine.removed == [stray])
        assert pool.status()["classes"][0]["ready"] == 1


def test_a_job_that_ends_while_the_pool_stops_removes_its_own_container(bench: Bench) -> None:
    with bench.pool() as pool:
        ready(pool, 2)
        slot = bench.take()
        assert slot is not None
        pool.stop()
        until(lambda: len(bench.engine.containers) == 1)
        slot.shut()
        assert slot.lease.end() is True
        assert bench.engine.containers == {}
        assert not slot.folder.exists()


@pytest.mark.usefixtures("visible")
@pytest.mark.parametrize(
    ("start", "used", "taken"),
    [
        (0.08, 0.004, True),
        (0.08, 0.006, False),
        (0.32, 0.019, True),  # a machine that takes four times as long for everything
        (0.32, 0.021, False),
        (9.0, 0.021, False),  # whatever the machine: no more than a program takes
        (None, 0.004, True),
        (None, 0.006, False),
        (0.08, None, False),
    ],
)
def test_a_slot_that_computed_while_it_waited_is_discarded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, start: float | None, used: float | None, taken: bool
) -> None:
    monkeypatch.setattr(stock, "read_process_1_seconds", lambda _: start)
    with bench.pool(size=1) as pool:
        ready(pool, 1)
        now = None if used is None else 1.0 + used
        monkeypatch.setattr(stock, "read_cpu_seconds", lambda _: now)
        slot = bench.take()
        assert (slot is not None) == taken
        if slot is not None:
            slot.shut()
            slot.lease.end()
        else:
            assert pool.status()["discarded_for"] == {"cpu": 1}


def test_a_slot_older_than_its_lease_is_replaced(bench: Bench) -> None:
    with bench.pool(size=1, lease=0.4) as pool:
        ready(pool, 1)
        until(lambda: pool.status()["discarded_for"].get("lease", 0) >= 2)
        assert pool.status()["counts"]["started"] >= 2


def test_no_container_is_started_for_later_while_a_job_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_PATIENCE_SECONDS", 600.0)
    with bench.pool(size=1) as pool:
        ready(pool, 1)
        slot = bench.take()
        assert slot is not None
        time.sleep(1)
        assert pool.status()["counts"]["started"] == 1
        slot.shut()
        slot.lease.end()
        ready(pool, 1)
        assert pool.status()["counts"]["started"] == 2


def test_a_run_that_starts_its_own_container_comes_first_as_well(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_PATIENCE_SECONDS", 600.0)
    with bench.pool(size=1) as pool:
        ready(pool, 1)
        slot, client = bench.take(), bench.client()
        assert client.take("script", CONFIG) is None
        assert slot is not None
        slot.shut()
        slot.lease.end()
        time.sleep(1)
        assert pool.status()["counts"]["started"] == 1
        client.close()
        ready(pool, 1)


def test_where_jobs_never_pause_one_more_is_started_after_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_PATIENCE_SECONDS", 0.5)
    with bench.pool(size=1) as pool:
        ready(pool, 1)
        slot = bench.take()
        assert slot is not None
        ready(pool, 1)
        slot.shut()
        slot.lease.end()


def test_no_more_are_started_at_once_than_allowed(bench: Bench) -> None:
    at_once, most, lock = 0, 0, threading.Lock()
    original = bench.engine.create

    def create(request: Any) -> str:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.1)
        with lock:
            at_once -= 1
        return original(request)

    bench.engine.create = create  # type: ignore[method-assign]
    with bench.pool(size=6, starts=2) as pool:
        ready(pool, 6)
    assert most == 2


def test_a_start_that_fails_is_told_and_tried_again_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_BACKOFF_SECONDS_MAX", 0.2)
    original, failures = bench.engine.start, iter([True, False])

    def start(container_id: str) -> None:
        if next(failures, False):
            raise HostError("no room")
        original(container_id)

    bench.engine.start = start  # type: ignore[method-assign]
    with bench.pool(size=1, starts=1) as pool:
        until(lambda: pool.status()["counts"]["failed"] == 1)
        ready(pool, 1)
        assert pool.status()["classes"][0]["error"] is None
    assert bench.engine.containers == {}
    assert any("no room" in said for said in bench.said)


def test_the_socket_is_the_owners_alone(bench: Bench) -> None:
    with bench.pool():
        until(lambda: (bench.home.pool / "pool.sock").exists())
        assert (bench.home.pool / "pool.sock").stat().st_mode & 0o777 == 0o600
        assert bench.home.pool.stat().st_mode & 0o777 == 0o700


def test_a_pool_that_is_told_to_stop_removes_what_waits(bench: Bench) -> None:
    with bench.pool() as pool:
        ready(pool, 2)
        assert ask(bench.home, "stop", seconds=60) == {"v": 1, "op": "stopping"}
        until(lambda: bench.engine.containers == {})
    assert ask(bench.home, "status", seconds=60) is None
