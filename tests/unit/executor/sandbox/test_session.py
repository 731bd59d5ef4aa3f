"""A session against a container that misbehaves in every way that the protocol allows."""

import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.errors import HostError, ImageMismatchError, UnsupportedError
from executor.sandbox import intake as intake_module
from executor.sandbox.cgroup import Usage
from executor.sandbox.config import ContainerRequest
from executor.sandbox.counters import Counters, Reading
from executor.sandbox.engine import ContainerState
from executor.sandbox.intake import Listener
from executor.sandbox.outcome import OutcomeKind
from executor.sandbox.protocol import Channel, Launch, Procedure
from executor.sandbox.session import RunResult, Session, SessionLimits, cpu_seconds_backstop
from executor.sandbox.slot import make_folders, open_slot
from executor.transfer.quarantine import Quarantine
from tests.fakes.clock import Clock, until
from tests.fakes.engine import FakeEngine, Script, Worker, frames
from tests.unit.executor.sandbox.test_config import CONFIG

PROCEDURE = Procedure(kind="script", params={}, inputs={}, outputs={}, entry="a.py")
LAUNCH = Launch(procedure=PROCEDURE, seed=0, threads=1, cpu_seconds=5, wall_seconds=10)


class Bench:
    """One session on a fake engine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "q").mkdir()
        self.quarantine = Quarantine(
            folder / "q", declared={"a": "data"}, bytes_max=1 << 20, file_bytes_max=2 << 20, files_max=1
        )
        self.progress: list[Any] = []
        self.logs: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        self.cancel = False

    def run(
        self,
        script: Script,
        *,
        wall: float = 10,
        idle: float = 10,
        log_bytes: int = 1000,
        engine: FakeEngine | None = None,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> RunResult:
        self.engine = engine or FakeEngine(script)
        slot_folder = self.folder / "slot"
        make_folders(slot_folder)
        slot = open_slot(
            self.engine,
            ContainerRequest(name="n", config=CONFIG, folder=slot_folder, labels=()),
            users=self.folder / "users.lock",
            kind="script",
            preload=False,
            lease_seconds=5,
            cancelled=lambda: self.cancel,
        )
        session = Session(
            self.engine,
            slot,
            limits=SessionLimits(wall_seconds=wall, idle_seconds=idle, log_bytes=log_bytes),
            quarantine=self.quarantine,
            listener=Listener(on_progress=self.progress.append, on_log=self._log),
            cancelled=lambda: self.cancel,
            clock=clock,
            cpu_clock=cpu_clock,
        )
        return session.run(replace(LAUNCH, wall_seconds=wall))

    def _log(self, stream: str, data: bytes) -> None:
        self.logs[stream] += data


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def wait_for_kill(worker: Worker) -> None:
    worker.killed.wait(20)


def test_an_honest_job_is_told_what_to_do_and_its_words_arrive(bench: Bench) -> None:
    def job(worker: Worker) -> None:
        assert worker.launch == dict(LAUNCH.to_wire())[Channel.CONTROL]
        worker.stdout.sendall(b"out")
        worker.stderr.sendall(b"err")
        worker.say(type="progress", values={"epoch": 1})
        worker.output("a", b"data")
        worker.finish({"metrics": {"m": 1}})

    result = bench.run(job)
    assert result.outcome.kind is OutcomeKind.SUCCEEDED
    assert result.result == {"metrics": {"m": 1}}
    assert bench.progress == [{"epoch": 1}]
    assert bench.logs == {"stdout": b"out", "stderr": b"err"}
    assert [a.name for a in bench.quarantine.artifacts] == ["a"]
    assert result.log_bytes == 6
    assert bench.engine.removed == ["container-1"]


def test_a_job_that_fails_says_why(bench: Bench) -> None:
    def job(worker: Worker) -> None:
        worker.say(type="error", error="ValueError", message="no rows")
        worker.finish(code=1)

    outcome = bench.run(job).outcome
    assert (outcome.kind, outcome.reason, outcome.job_exit_code) == (OutcomeKind.JOB_FAILED, "ValueError: no rows", 1)


def test_the_wall_limit_kills(bench: Bench) -> None:
    assert bench.run(wait_for_kill, wall=0.5).outcome.kind is OutcomeKind.TIMED_OUT
    assert bench.engine.removed == ["container-1"]


def test_a_job_that_neither_says_nor_computes_anything_is_ended(bench: Bench) -> None:
    clock = Clock()

    def job(worker: Worker) -> None:
        while not worker.killed.wait(0.05):
            clock.advance(0.1)

    outcome = bench.run(job, idle=0.6, wall=1e6, clock=clock).outcome
    assert (outcome.kind, outcome.limit) == (OutcomeKind.TIMED_OUT, "idle_seconds")


def test_a_job_that_says_something_now_and_then_is_not_idle(bench: Bench) -> None:
    clock = Clock()

    def job(worker: Worker) -> None:
        for count in range(1, 9):
            worker.say(type="progress", values={"epoch": count})
            until(reached(bench.progress, count))
            clock.advance(0.5)
        worker.finish()

    result = bench.run(job, idle=0.6, clock=clock)
    assert result.outcome.kind is OutcomeKind.SUCCEEDED
    assert result.idle_seconds == 0.5


@pytest.mark.parametrize(("rate", "kind"), [(0.02, OutcomeKind.SUCCEEDED), (0.008, OutcomeKind.TIMED_OUT)])
def test_a_job_that_computes_is_not_idle(bench: Bench, rate: float, kind: OutcomeKind) -> None:
    clock = Clock()

    def job(worker: Worker) -> None:
        computing(worker, clock, engine, rate)
        worker.finish()

    engine = FakeEngine(job)
    assert bench.run(job, idle=4, wall=60, engine=engine, clock=clock).outcome.kind is kind


def test_where_nobody_counts_what_a_job_computes_it_is_not_called_idle(bench: Bench) -> None:
    clock = Clock()

    def job(worker: Worker) -> None:
        computing(worker, clock, engine, None)
        worker.finish()

    engine = FakeEngine(job)
    assert bench.run(job, idle=4, wall=60, engine=engine, clock=clock).outcome.kind is OutcomeKind.SUCCEEDED


def reached(items: list[Any], count: int, *, unless: threading.Event | None = None) -> Callable[[], bool]:
    """Whether something has happened so often, and the engine has no question to answer."""

    def is_reached() -> bool:
        asked = any(thread.name == "counters" for thread in threading.enumerate())
        return (len(items) >= count and not asked) or (unless is not None and unless.is_set())

    return is_reached


def computing(worker: Worker, clock: Clock, engine: FakeEngine, rate: float | None) -> None:
    """Let a job use so much of a core for 12 s, and the host read its counters every second of them."""
    read: list[float] = []

    def used() -> Usage:
        read.append(clock.now)
        return Usage(cpu_seconds=None if rate is None else 1.0 + rate * clock.now)

    engine.used = used
    for count in range(1, 13):
        clock.advance(1.0)
        until(reached(read, count, unless=worker.killed))


def test_the_temporary_file_system_is_measured_while_the_job_computes_and_never_while_it_waits(bench: Bench) -> None:
    clock, rates, read, requests = Clock(), iter([0.0] * 10 + [0.02] * 10 + [0.0] * 10), [1.0], []

    def used() -> Usage:
        read.append(read[-1] + next(rates, 0.0))
        return Usage(cpu_seconds=read[-1])

    def job(worker: Worker) -> None:
        for count in range(2, 32):
            clock.advance(1.0)
            until(reached(read, count))
            if count % 10 == 1:
                time.sleep(0.5)  # for the host to act on what it has read
                requests.append(waiting_requests(worker))
        worker.finish()

    engine = FakeEngine(job)
    engine.used = used
    assert bench.run(job, wall=60, engine=engine, clock=clock, idle=60).outcome.kind is OutcomeKind.SUCCEEDED
    # A request comes with the reading after the two seconds that it is about.
    assert requests[0] == 0
    assert 3 <= sum(requests) <= 6
    assert requests[2] <= 1


def waiting_requests(worker: Worker) -> int:
    """Read what the host has asked process 1 by now."""
    count = 0
    while select.select([worker.supervisor], [], [], 0)[0]:
        assert frames.receive_json(worker.supervisor) == {"type": "sample"}
        count += 1
    return count


def test_a_request_to_stop_cancels(bench: Bench) -> None:
    def job(worker: Worker) -> None:
        bench.cancel = True
        worker.killed.wait(20)

    assert bench.run(job).outcome.kind is OutcomeKind.CANCELLED


def test_text_up_to_the_limit_passes_and_more_is_cut_off_and_killed(bench: Bench) -> None:
    def job(worker: Worker) -> None:
        worker.stdout.sendall(b"x" * 600)
        worker.stderr.sendall(b"y" * 400)
        worker.finish()

    assert bench.run(job).outcome.kind is OutcomeKind.SUCCEEDED


def test_text_over_the_limit_is_cut_at_the_limit(bench: Bench) -> None:
    def job(worker: Worker) -> None:
        while not worker.killed.is_set():
            worker.stdout.sendall(b"x" * 4096)

    outcome = bench.run(job).outcome
    assert (outcome.kind, outcome.limit) == (OutcomeKind.LIMIT_EXCEEDED, "log_bytes")
    assert len(bench.logs["stdout"]) == 1000


def test_an_output_over_the_limit_is_a_limit_and_not_a_protocol_error(bench: Bench) -> None:
    def job(worker: Worker) -> None:
        worker.output("a", b"", size=(1 << 20) + 1)
        wait_for_kill(worker)

    outcome = bench.run(job).outcome
    assert (outcome.kind, outcome.limit) == (OutcomeKind.LIMIT_EXCEEDED, "output_bytes")


def attack(*steps: Any) -> Script:
    def job(worker: Worker) -> None:
        for step in steps:
            step(worker)
        wait_for_kill(worker)

    return job


@pytest.mark.parametrize(
    "step",
    [
        lambda w: w.control.sendall(b"Xgarbage"),
        lambda w: w.say(type="dance"),
        lambda w: w.say(kind="none"),
        lambda w: w.output("b", b"x"),
        lambda w: w.output("a", b"x", sha256="0" * 64),
        lambda w: frames.send_bytes(w.control, b"loose"),
        lambda w: frames.send_bytes(w.supervisor, b"loose"),
        lambda w: w.say(type="progress", values={"a": "text"}),
        lambda w: w.say(type="progress", values={str(i): i for i in range(65)}),
        lambda w: w.say(type="progress", values={"a" * 65: 1}),
        lambda w: w.say(type="progress", values={"a": True}),
        lambda w: (w.say(type="result", result={}), w.say(type="result", result={})),
        lambda w: w.say(type="result", result=[]),
        lambda w: frames.send_json(w.supervisor, {"type": "exit", "exit_code": "0", "signal": 0}),
    ],
)
def test_a_broken_protocol_is_the_jobs_fault_and_ends_it(bench: Bench, step: Any) -> None:
    outcome = bench.run(attack(step)).outcome
    assert (outcome.kind, outcome.limit) == (OutcomeKind.JOB_FAILED, "protocol")
    assert bench.engine.removed == ["container-1"]


def progress(count: int, values: dict[str, float]) -> Script:
    def job(worker: Worker) -> None:
        for _ in range(count):
            worker.say(type="progress", values=values)
        worker.finish()

    return job


def test_progress_with_as_many_and_as_long_names_as_allowed_passes(bench: Bench) -> None:
    values = {f"{number:02d}" + "n" * 62: 1.0 for number in range(64)}
    assert bench.run(progress(1, values)).outcome.kind is OutcomeKind.SUCCEEDED


def test_messages_up_to_the_limit_pass_and_one_more_ends_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "_MESSAGES_MAX", 4)  # three of progress and the result
    for count, limit in ((3, None), (4, "protocol")):
        (tmp_path / str(count)).mkdir()
        assert Bench(tmp_path / str(count)).run(progress(count, {"a": 1.0})).outcome.limit == limit


def test_bytes_of_messages_up_to_the_limit_pass_and_one_more_ends_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len('{"type":"progress","values":{"a":1.0}}') + len('{"type":"result","result":{}}')
    for limit, stopped in ((size, None), (size - 1, "protocol")):
        monkeypatch.setattr(intake_module, "_MESSAGE_BYTES_MAX", limit)
        (tmp_path / str(limit)).mkdir()
        assert Bench(tmp_path / str(limit)).run(progress(1, {"a": 1.0})).outcome.limit == stopped


def test_a_job_that_ends_inside_an_output_sent_nothing(bench: Bench) -> None:
    def job(worker: Worker) -> None:
        worker.say(type="output", name="a", role="data", size=10)
        frames.send_bytes(worker.control, b"half")
        worker.finish(code=1)

    assert bench.run(job).outcome.kind is OutcomeKind.JOB_FAILED
    assert bench.quarantine.artifacts == []
    assert list((bench.folder / "q").iterdir()) == []


def test_a_zero_exit_without_a_result_is_no_success(bench: Bench) -> None:
    assert bench.run(lambda w: w.exit(0)).outcome.kind is OutcomeKind.JOB_FAILED


def test_a_container_that_dies_without_a_word_is_the_hosts_fault(bench: Bench) -> None:
    def job(worker: Worker) -> None:
        for stream in (worker.control, worker.stdout, worker.stderr, worker.supervisor):
            stream.close()

    engine = FakeEngine(job, status=4294967295)
    assert bench.run(job, engine=engine).outcome.kind is OutcomeKind.HOST_FAULT


def test_a_second_connection_on_a_channel_is_refused(bench: Bench) -> None:
    def job(worker: Worker) -> None:
        worker.finish()

    engine = FakeEngine(job)
    original = engine.start

    def start(container_id: str) -> None:
        path = str(bench.folder / "slot/socket/worker.sock")
        for _ in range(2):
            stream = socket.socket(socket.AF_UNIX)
            stream.connect(path)
            stream.sendall(b"C")
            strays.append(stream)
        original(container_id)

    strays: list[Any] = []
    engine.start = start  # type: ignore[method-assign]
    with pytest.raises(HostError, match="channel that is not the worker's"):
        bench.run(job, engine=engine)
    assert engine.removed == ["container-1"]


def test_nothing_can_connect_once_the_worker_has(bench: Bench) -> None:
    refused: list[bool] = []

    def job(worker: Worker) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not refused:
            try:
                worker.open(b"C").close()
                time.sleep(0.02)
            except OSError:
                refused.append(True)
        worker.finish()

    assert bench.run(job).outcome.kind is OutcomeKind.SUCCEEDED
    assert refused


def test_a_container_of_another_image_than_asked_is_refused_and_removed(bench: Bench) -> None:
    engine = FakeEngine(wait_for_kill)
    state = engine.state

    def other(container_id: str) -> ContainerState:
        return replace(state(container_id), image_id="sha256:" + "f" * 64)

    engine.state = other  # type: ignore[method-assign]
    with pytest.raises(ImageMismatchError):
        bench.run(wait_for_kill, engine=engine)
    assert engine.removed == ["container-1"]


def test_a_home_with_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    bench = Bench(deep)

    def short(worker: Worker) -> None:
        worker.finish()

    engine = FakeEngine(short)
    original = engine.create

    def create(request: ContainerRequest) -> str:  # a container sees the socket under a short path of its own
        link = tmp_path / "s"
        link.symlink_to(deep)
        return original(replace(request, folder=link / request.folder.relative_to(deep)))

    engine.create = create  # type: ignore[method-assign]
    assert bench.run(short, engine=engine).outcome.kind is OutcomeKind.SUCCEEDED


def test_the_cpu_backstop_is_beyond_what_an_honest_process_can_use() -> None:
    assert cpu_seconds_backstop(2, 60) >= 120
    assert cpu_seconds_backstop(0.5, 60) >= 60


@pytest.mark.parametrize(
    ("status", "kind", "words"), [(122, UnsupportedError, "does not see"), (1, HostError, "ended")]
)
def test_a_container_that_does_not_find_the_socket_is_told_from_one_that_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[HostError], words: str
) -> None:
    monkeypatch.setattr(FakeEngine, "start", lambda *_: None)
    with pytest.raises(HostError, match=words) as failed:
        bench.run(wait_for_kill, engine=FakeEngine(wait_for_kill, status=status))
    assert type(failed.value) is kind


class Unanswering(FakeEngine):
    """An engine that does not answer one call, once a container is to end."""

    def __init__(self, call: str) -> None:
        super().__init__(wait_for_kill)
        self.call = call
        self.asked: list[str] = []

    def kill(self, container_id: str) -> None:
        self.answer("kill")
        super().kill(container_id)

    def wait(self, container_id: str, *, seconds: float) -> bool:
        self.answer("wait")
        return self.call != "ended" and super().wait(container_id, seconds=seconds)

    def remove(self, container_id: str, *, seconds: float | None = None) -> None:
        self.answer("remove")
        super().remove(container_id)

    def answer(self, call: str) -> None:
        self.asked.append(call)
        if call == self.call:
            raise HostError(f"could not {call} a container: no answer in time")


@pytest.mark.parametrize("call", ["kill", "wait", "ended"])
def test_a_limit_is_what_ended_a_job_also_where_the_engine_does_not_end_its_container(bench: Bench, call: str) -> None:
    engine = Unanswering(call)
    result = bench.run(wait_for_kill, wall=0.5, engine=engine)
    assert (result.outcome.kind, result.outcome.limit) == (OutcomeKind.TIMED_OUT, "wall_seconds")
    assert result.removed is False
    assert "remove" not in engine.asked, "it would be waited for in vain"
    assert engine.unremoved() == {"n"}, "it is owed"


def test_a_cancelled_job_is_cancelled_also_where_the_engine_does_not_answer(bench: Bench) -> None:
    bench.cancel = True
    result = bench.run(wait_for_kill, engine=Unanswering("kill"))
    assert result.outcome.kind is OutcomeKind.CANCELLED
    assert result.removed is False


@pytest.mark.parametrize(("step", "kind"), [(59.0, OutcomeKind.TIMED_OUT), (61.0, OutcomeKind.LIMIT_EXCEEDED)])
def test_a_job_that_keeps_the_host_busy_is_ended(bench: Bench, step: float, kind: OutcomeKind) -> None:
    used = iter([0.0])
    result = bench.run(wait_for_kill, wall=1.0, cpu_clock=lambda: next(used, step))
    assert result.outcome.kind is kind
    assert result.outcome.limit == ("host_cpu_seconds" if kind is OutcomeKind.LIMIT_EXCEEDED else "wall_seconds")
    assert (result.host_cpu_seconds, result.host_cpu_seconds_max) == (step, 60.0)


@pytest.mark.parametrize(("count", "kind"), [(2048, OutcomeKind.TIMED_OUT), (2049, OutcomeKind.LIMIT_EXCEEDED)])
def test_a_job_that_has_too_many_tcp_sockets_is_ended(
    bench: Bench, count: int, kind: OutcomeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_counters: Counters, *, last: bool = False) -> Reading:
        del last
        return Reading(at=0.0, usage=Usage(), job_cpu_seconds=None, tcp_sockets=count)

    monkeypatch.setattr(Counters, "read", read)
    result = bench.run(wait_for_kill, wall=1.0)
    assert result.outcome.kind is kind
    assert result.outcome.limit == ("tcp_sockets" if kind is OutcomeKind.LIMIT_EXCEEDED else "wall_seconds")
    assert result.tcp_sockets == count


def test_taking_in_a_large_output_may_cost_more(bench: Bench) -> None:
    def job(worker: Worker) -> None:
        worker.output("a", bytes(100))
        worker.finish()

    result = bench.run(job)
    assert result.output_bytes == 100
    assert result.host_cpu_seconds_max == round(60 + result.output_bytes / (16 << 20), 3)
