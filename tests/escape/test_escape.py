"""Attempts that need something of the host to be seen getting through: a listener, an input, a second observer."""

import contextlib
import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.doctor.attempts import Attempt
from executor.doctor.battery import plan_attempt, run_attempt
from executor.errors import HostError, RequestError
from executor.events import Events
from executor.job.prepare import prepare
from executor.run.containers import Context
from executor.run.journey import Run
from executor.sandbox import docker as docker_adapter
from executor.sandbox import session as session_module
from executor.sandbox.config import ContainerRequest, create_body
from executor.sandbox.docker import DockerEngine
from executor.sandbox.protocol import Channel
from executor.state.home import Home
from executor.transfer import inputs as inputs_module
from tests.escape.weakenings import host_network

pytestmark = pytest.mark.engine
LIBRARY = Path("/usr/lib/x86_64-linux-gnu/libz.so.1")
Tried = tuple[str, str]


def attempt(home: Path, code: str) -> Tried:
    """Run code in a job's container; return what it sent, and how it failed."""
    tried = Attempt(name="x", family="x", code=code, reasons=())
    plan, context = plan_attempt(tried), Context(home=Home(home), engine=DockerEngine())
    result, sent = run_attempt(tried, plan, image_id=plan.job.image_id, context=context)
    return sent, result.outcome.reason


def weaken(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    def body(request: ContainerRequest) -> dict[str, Any]:
        made = create_body(request)
        change(made)
        return made

    monkeypatch.setattr(docker_adapter, "create_body", body)


@pytest.fixture
def listener() -> Iterator[int]:
    """A server on the host's loopback that a job must not reach."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(300)

        def accept() -> None:
            with contextlib.suppress(OSError):
                server.accept()[0].close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]


def test_the_hosts_loopback_cannot_be_reached(home: Path, monkeypatch: pytest.MonkeyPatch, listener: int) -> None:
    code = f"import socket\nsocket.create_connection(('127.0.0.1', {listener}), timeout=5)\nresult = True"
    with monkeypatch.context() as patch:
        weaken(patch, host_network)
        assert attempt(home, code)[0] == "True"
    assert "Connection refused" in attempt(home, code)[1]


def test_open_files_that_a_job_sends_never_arrive(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SCM_RIGHTS: the host reads without room for them, so the kernel drops them (unix(7))."""
    code = (
        "import array, socket, struct\nfrom worker.job import current\n"
        'stream, data = current().control, b\'{"type":"progress","values":{"a":1}}\'\n'
        "files = array.array('i', [stream.fileno()] * 50)\n"
        "for _ in range(20):\n"
        "    stream.sendmsg([struct.pack('>cI', b'J', len(data)) + data],"
        " [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])\n"
        "result = True"
    )
    received: list[int] = []

    class Careless(socket.socket):
        """What a host would be that made room for them."""

        def recv(self, size: int, flags: int = 0) -> bytes:
            data, descriptors, _, _ = socket.recv_fds(self, size, 250, flags)
            received.extend(descriptors)
            return data

    original = session_module.Session._read
    with monkeypatch.context() as patch:

        def read(self: Any, stream: socket.socket, channel: Channel) -> bool:
            careless = Careless(fileno=os.dup(stream.fileno()))
            with careless:
                return original(self, careless, channel)

        patch.setattr(session_module.Session, "_read", read)
        assert attempt(home, code)[0] == "True"
    assert len(received) >= 50
    for descriptor in received:
        os.close(descriptor)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert attempt(home, code)[0] == "True"
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1  # the engine's client may keep a connection


@pytest.mark.parametrize("way", ["input", "code"])
def test_a_native_library_comes_in_by_no_mount(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The mounts of inputs and code are read-only and yet executable: runtimes drop `noexec` from bind mounts."""
    code, place = tmp_path / "code", "/in/library" if way == "input" else "/job/library.so"
    code.mkdir()
    (code / "main.py").write_text(
        f"import ctypes\nfrom worker.job import current\nctypes.CDLL({place!r})\n"
        "current().output('out.txt', 'loaded', role='report')\n"
    )
    job: dict[str, Any] = {
        "apiVersion": "executor/v1",
        "kind": "script",
        "code": {"path": "code", "entry": "main.py"},
        "outputs": [{"name": "out.txt", "role": "report"}],
    }
    if way == "input":
        (tmp_path / "library").write_bytes(LIBRARY.read_bytes())
        digest = hashlib.sha256(LIBRARY.read_bytes()).hexdigest()
        job["inputs"] = {"library": {"uri": "library", "sha256": digest}}
    else:
        (code / "library.so").write_bytes(LIBRARY.read_bytes())
    (tmp_path / "job.json").write_text(json.dumps(job))

    def run(name: str) -> dict[str, Any]:
        context = Context(home=Home(home), engine=DockerEngine())
        prepared = prepare(tmp_path / "job.json", home=context.home)
        made = Run(prepared, run_id=name, target=tmp_path / name, context=context, events=Events(name))
        return made.execute()

    with monkeypatch.context() as patch:
        patch.setattr(inputs_module, "refuse_native", lambda *_, **__: None)
        assert run("weak")["status"] == "released"
        assert (tmp_path / "weak/artifacts/out.txt").read_text() == "loaded"
    with pytest.raises(RequestError, match="native library"):
        run("sealed")
    assert not (tmp_path / "sealed").exists()


def test_a_container_of_another_image_is_never_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weaken(monkeypatch, lambda body: body.update(Image="sha256:" + "0" * 64))
    with pytest.raises(HostError, match="no image"):
        attempt(home, "result = 1")
