"""What host and worker say to one another, each side's own messages against the one schema."""

import copy
import importlib.resources
import json
import socket
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from executor.egress.proxy import parse_traffic
from executor.errors import JobError
from executor.sandbox import protocol
from executor.sandbox.intake import Intake, Listener
from executor.sandbox.protocol import Channel, Launch, Prepare, Procedure, WorkerExit
from executor.transfer.frames import encode_message
from tests.fakes.engine import frames

job_module: Any = import_module("worker.job")
runner: Any = import_module("worker.runner")
supervisor: Any = import_module("worker.supervisor")
egress: Any = import_module("worker.procedures.egress")
SCHEMA = json.loads((importlib.resources.files("executor") / "schema/worker.schema.json").read_bytes())
LAUNCH = Launch(
    procedure=Procedure(kind="script", params={"a": [1]}, inputs={"x": "/in/x"}, outputs={"y": "data"}, entry="a.py"),
    seed=0,
    threads=2,
    cpu_seconds=7,
    wall_seconds=2.5,
)
PREPARE = Prepare(kind="script", threads=2, preload=True, lease_seconds=60.0, egress=False)


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$defs": SCHEMA["$defs"], "$ref": f"#/$defs/{name}"})


def to_worker() -> dict[str, dict[str, Any]]:
    supervisor_wire, job_wire = (message for _, message in LAUNCH.to_wire())
    return {
        "prepare": PREPARE.to_wire(),
        "launch-supervisor": supervisor_wire,
        "launch": job_wire,
        "sample": {"type": "sample"},
        "bye": {"type": "bye"},
    }


@pytest.fixture
def control() -> Iterator[tuple[socket.socket, socket.socket]]:
    host, worker = socket.socketpair()
    with host, worker:
        yield host, worker


def from_worker(host: socket.socket, worker: socket.socket) -> dict[str, dict[str, Any]]:
    """Have the worker's own code send what it can send."""
    job = job_module.Job(dict(LAUNCH.to_wire())[Channel.CONTROL], worker)
    tally = egress.Tally()
    tally.take("TCP_DENIED 403 - a.test 443")
    said: list[Callable[[], Any]] = [
        lambda: job.progress(epoch=1, loss=0.5),
        lambda: job.output("y", b""),
        lambda: runner._send_error(job, "ValueError", "x" * 9000),
        lambda: runner._end_as_asked(SystemExit(0), job),
        lambda: job.send(tally.to_wire()),
    ]
    for say in said:
        say()
    worker.shutdown(socket.SHUT_WR)
    found: dict[str, dict[str, Any]] = {}
    while True:
        try:
            message = frames.receive_json(host)
        except EOFError:
            return found
        found[message["type"]] = message


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"].endswith(f":v{protocol.PROTOCOL}")


def test_what_the_host_says_fits_and_the_worker_understands_it(control: tuple[socket.socket, socket.socket]) -> None:
    for name, message in to_worker().items():
        validator(name).validate(message)
    job = job_module.Job(dict(LAUNCH.to_wire())[Channel.CONTROL], control[1])
    assert (job.kind, job.params, job.seed, job.threads, job.entry) == ("script", {"a": [1]}, 0, 2, "a.py")
    assert {name: str(path) for name, path in job.inputs.items()} == {"x": "/in/x"}


def test_what_the_worker_says_fits(control: tuple[socket.socket, socket.socket]) -> None:
    found = from_worker(*control)
    assert set(found) == {"progress", "output", "output-end", "error", "result", "egress"}
    for name, message in found.items():
        validator(name).validate(message)


def wrong(value: Any) -> Any:
    """Return a value of another type."""
    return [] if isinstance(value, str | int | float | dict) or value is None else "x"


def test_a_field_of_another_type_is_refused(control: tuple[socket.socket, socket.socket]) -> None:
    for name, message in (to_worker() | from_worker(*control)).items():
        for field in message:
            changed = copy.deepcopy(message)
            changed[field] = wrong(message[field])
            assert not validator(name).is_valid(changed), (name, field)
        assert not validator(name).is_valid(message | {"more": 1}), name


class Nowhere:
    """A quarantine that takes nothing."""

    def begin(self, header: dict[str, Any]) -> None:
        raise JobError("not here")

    end = write = begin


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        (Channel.SUPERVISOR, {"type": "exit", "exit_code": "0", "signal": 0}),
        (Channel.SUPERVISOR, {"type": "exit", "exit_code": 0}),
        (Channel.CONTROL, {"type": "progress", "values": {"a": "b"}}),
        (Channel.CONTROL, {"type": "result", "result": []}),
        (Channel.CONTROL, {"type": "more"}),
    ],
)
def test_the_host_refuses_what_the_schema_refuses(channel: Channel, message: dict[str, Any]) -> None:
    assert not validator("from-worker").is_valid(message)
    intake = Intake(Nowhere(), Listener(), log_bytes_max=1)  # type: ignore[arg-type]
    with pytest.raises(JobError):
        intake.take(channel, encode_message(message))


def test_the_host_refuses_a_report_that_the_schema_refuses() -> None:
    message = {"type": "egress", "allowed": 0, "denied": 0, "denials": [["a", 1, "x"]]}
    assert not validator("egress").is_valid(message)
    with pytest.raises(JobError):
        parse_traffic(message)


def test_both_sides_number_the_protocol_and_the_exits_alike() -> None:
    assert supervisor.PROTOCOL == protocol.PROTOCOL
    assert supervisor.UNCONNECTED == WorkerExit.UNCONNECTED
