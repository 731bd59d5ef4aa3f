"""The adapter against an engine that does not answer: each call has a time of its own and holds up no other."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.errors import HostError, UnsupportedError
from executor.sandbox import docker as docker_module
from executor.sandbox.config import ContainerRequest
from executor.sandbox.docker import DockerEngine
from tests.unit.executor.sandbox.test_config import CONFIG

ANSWERS: dict[str, object] = {"/version": {"ApiVersion": "1.41"}, "/containers/json": []}


class Engine:
    """Answers what it knows, trickles what is asked of `/info`, and never answers anything else."""

    def __init__(self, folder: Path) -> None:
        self.address = folder / "s"
        self._over = threading.Event()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.address))
        self._server.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._over.set()
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        with stream, contextlib.suppress(OSError):
            while request := stream.recv(65536).decode():
                path = request.split()[1].partition("?")[0]
                known = next((a for end, a in ANSWERS.items() if path.endswith(end)), None)
                if known is None:
                    self._do_not_answer(stream, trickle=path.endswith("/info"))
                    return
                body = json.dumps(known)
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                stream.sendall((head + body).encode())

    def _do_not_answer(self, stream: socket.socket, *, trickle: bool) -> None:
        if trickle:
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not self._over.wait(0.1):
            if trickle:
                stream.sendall(b" ")


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerEngine]:
    server = Engine(tmp_path_factory.mktemp("e"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{server.address}")
    monkeypatch.setattr(docker_module, "_MARGIN_SECONDS", 0.2)
    monkeypatch.setattr(docker_module, "_KILL_SECONDS", 3.0)
    yield DockerEngine()
    server.stop()


def test_a_call_without_an_answer_ends_in_its_time_and_holds_up_no_other(engine: DockerEngine) -> None:
    refused: list[HostError] = []

    def kill() -> None:
        try:
            engine.kill("c")
        except HostError as err:
            refused.append(err)

    stuck = threading.Thread(target=kill)
    stuck.start()
    for _ in range(5):
        assert engine.owned("label") == []
    assert stuck.is_alive(), "other calls waited"
    stuck.join(60)
    assert "no answer" in refused[0].message


def test_an_answer_that_trickles_in_is_not_waited_for(engine: DockerEngine) -> None:
    """The connection's own time limit counts from one byte to the next."""
    began = time.monotonic()
    with pytest.raises(HostError, match="no answer within"):
        engine._call("ask", "info", seconds=0.5)
    assert time.monotonic() - began < 30, "a hundred is what the whole answer takes"
    assert engine.owned("label") == []


def test_waiting_for_a_container_that_goes_on_is_no_error(engine: DockerEngine) -> None:
    assert engine.wait("c", seconds=0.3) is False


@pytest.mark.parametrize(("unanswered", "asked"), [(1, True), (2, False)])
def test_an_engine_that_left_too_many_calls_unanswered_is_not_asked(
    engine: DockerEngine, monkeypatch: pytest.MonkeyPatch, unanswered: int, asked: bool
) -> None:
    monkeypatch.setattr(docker_module, "_UNANSWERED_MAX", 2)
    for _ in range(unanswered):
        with pytest.raises(HostError, match="no answer within"):
            engine._call("ask", "info", seconds=0.2)
    if asked:
        assert engine.owned("label") == []
    else:
        with pytest.raises(HostError, match="leaves 2 calls unanswered"):
            engine.owned("label")


@pytest.fixture
def asked_to_stop(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    asked = threading.Event()
    monkeypatch.setattr(engine, "_cancelled", asked.is_set)
    return asked


def test_once_somebody_asked_to_stop_all_calls_together_have_little_time(
    engine: DockerEngine, asked_to_stop: threading.Event
) -> None:
    threading.Timer(0.3, asked_to_stop.set).start()
    began = time.monotonic()
    with pytest.raises(HostError, match="no answer"):
        engine.state("c")
    first = time.monotonic() - began
    for _ in range(5):
        with pytest.raises(HostError, match="no answer"):
            engine.remove("c")
    assert 1.0 <= first < 10, "15 s is what the call has else"
    assert time.monotonic() - began - first < 10, "300 s is what those have else"


def test_an_engine_that_answers_is_asked_also_after_somebody_asked_to_stop(
    engine: DockerEngine, asked_to_stop: threading.Event
) -> None:
    asked_to_stop.set()
    assert engine.owned("label") == []


def request(name: str) -> ContainerRequest:
    return ContainerRequest(name=name, config=CONFIG, folder=Path("/nowhere"), labels=(), user=1)


@pytest.mark.parametrize(("has", "asked"), [(1, 10**9), (2, 1_500_000_000), (64, 1_500_000_000)])
def test_a_limit_on_cpus_is_never_more_than_the_engine_has(
    engine: DockerEngine, monkeypatch: pytest.MonkeyPatch, has: int, asked: int
) -> None:
    bodies = []

    def answer(what: str, method: str, *args: Any, **_: Any) -> dict[str, Any]:
        if method == "info":
            return {"ServerVersion": "1", "NCPU": has}
        bodies.append(args[0])
        return {"Id": "c"}

    monkeypatch.setattr(engine, "_call", answer)
    engine.create(request("one"))
    assert [body["HostConfig"]["NanoCpus"] for body in bodies] == [asked]


def test_a_container_is_owed_until_the_engine_has_removed_it(
    engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_cpus", 2)
    monkeypatch.setitem(ANSWERS, "/containers/create", {"Id": "c"})
    assert engine.create(request("one")) == "c"
    assert engine.unremoved() == {"one"}
    monkeypatch.setitem(ANSWERS, "/containers/one", {})
    engine.remove("one")
    assert engine.unremoved() == frozenset()


def test_a_container_that_may_have_been_made_without_an_answer_stays_owed(
    engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it is not there says nothing: the engine may be about to make it."""
    monkeypatch.setattr(engine, "_cpus", 2)
    monkeypatch.setattr(docker_module, "_CHANGE_SECONDS", 0.2)
    with pytest.raises(HostError, match="no answer"):
        engine.create(request("one"))
    monkeypatch.setitem(ANSWERS, "/containers/one", {})
    engine.remove("one")
    assert engine.unremoved() == {"one"}


def test_what_could_not_be_removed_is_owed_whoever_made_it(
    engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_module, "_CHANGE_SECONDS", 0.2)
    with pytest.raises(HostError, match="no answer"):
        engine.remove("theirs")
    assert engine.unremoved() == {"theirs"}


def test_a_network_is_owed_until_the_engine_has_removed_it(
    engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ANSWERS, "/networks/create", {"Id": "n"})
    assert engine.create_network("one", labels=(), subnet=None)
    monkeypatch.setattr(docker_module, "_CHANGE_SECONDS", 0.2)
    with pytest.raises(HostError, match="no answer"):
        engine.remove_network("one")
    assert engine.unremoved() == {"one"}
    monkeypatch.setitem(ANSWERS, "/networks/one", {})
    engine.remove_network("one")
    assert engine.unremoved() == frozenset()


def test_a_network_that_may_have_been_made_without_an_answer_stays_owed(
    engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_module, "_CHANGE_SECONDS", 0.2)
    with pytest.raises(HostError, match="no answer"):
        engine.create_network("one", labels=(), subnet=None)
    monkeypatch.setitem(ANSWERS, "/networks/one", {})
    engine.remove_network("one")
    assert engine.unremoved() == {"one"}


@pytest.mark.parametrize(
    ("raised", "subnet", "message"),
    [
        (docker_module._NotFoundError("could not create a network"), None, "no subnet left"),
        (UnsupportedError("could not create a network: it overlaps"), None, "overlaps"),
        (UnsupportedError("could not create a network: forbidden"), "10.1.2.0/30", "forbidden"),
    ],
)
def test_a_network_that_the_engine_refuses_is_not_owed(
    engine: DockerEngine, monkeypatch: pytest.MonkeyPatch, raised: HostError, subnet: str | None, message: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(engine, "_call", refuse)
    with pytest.raises(HostError, match=message):
        engine.create_network("one", labels=(), subnet=subnet)
    assert engine.unremoved() == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        '{"auths": {"x": {"auth": ""}}}',
        '{"auths": {"x": {"auth": "bm9jb2xvbg=="}}}',
        '{"proxies": null}',
        "null",
        "[]",
        "{",
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_the_users_own_configuration_is_not_needed_to_speak_to_the_engine(
    engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, named: bool
) -> None:
    folder = tmp_path / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text(text)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    if named:
        monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    assert DockerEngine().owned("label") == []
    assert os.environ.get("DOCKER_CONFIG") == (str(folder) if named else None), "others may need it"


@pytest.mark.parametrize("version", ["unified", "v1.43", "", "1.41.0"])
def test_a_version_that_is_none_is_told(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(engine, "_version", version)
    monkeypatch.setattr(engine, "_call", lambda *_, **__: {})
    with pytest.raises(UnsupportedError, match="no Docker Engine"):
        engine.info()


def test_what_an_engine_does_not_say_of_itself_it_cannot(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_call", lambda *_, **__: {})
    info = engine.info()
    assert (info.version, info.seccomp, info.memory_limit, info.runtimes) == ("unknown", False, False, frozenset())
