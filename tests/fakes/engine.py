"""An engine in memory whose containers are threads that speak the worker's protocol."""

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from executor.sandbox.cgroup import Usage
from executor.sandbox.config import ContainerRequest, create_body
from executor.sandbox.engine import ContainerState, EngineInfo, ImageFacts, OwnedContainer, OwnedNetwork

frames: Any = import_module("worker.frames")

HEALTHY = EngineInfo(
    version="fake",
    api=(1, 41),
    runtimes=frozenset({"runc"}),
    seccomp=True,
    memory_limit=True,
    pids_limit=True,
    cdi=False,
    cgroup_version=1,
    user_namespace=False,
)


class Worker:
    """The container's side of the socket, in the words of the protocol."""

    def __init__(self, path: str, killed: threading.Event) -> None:
        self._path = path
        self.killed = killed
        self.supervisor = self.open(b"S")
        frames.send_json(self.supervisor, {"type": "ready", "protocol": 4})
        self.prepare: dict[str, Any] = frames.receive_json(self.supervisor)
        self.control, self.stdout, self.stderr = (self.open(c) for c in (b"C", b"O", b"E"))
        if self.prepare["preload"]:
            self.say(type="warm")
        self.wall_seconds_max = 0.0
        self.launch: dict[str, Any] = {}

    def wait_for_launch(self) -> None:
        self.wall_seconds_max = frames.receive_json(self.supervisor)["wall_seconds_max"]
        self.launch = frames.receive_json(self.control)

    def open(self, channel: bytes) -> socket.socket:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(Path(self._path).parent, os.O_PATH)  # its path may be longer than a socket address can hold
        try:
            stream.connect(f"/proc/self/fd/{folder}/{Path(self._path).name}")
        finally:
            os.close(folder)
        stream.sendall(channel)
        return stream

    def say(self, **message: Any) -> None:
        frames.send_json(self.control, message)

    def output(self, name: str, data: bytes, *, role: str = "data", size: int | None = None, sha256: str = "") -> None:
        self.say(type="output", name=name, role=role, size=len(data) if size is None else size)
        if data:
            frames.send_bytes(self.control, data)
        self.say(type="output-end", sha256=sha256 or hashlib.sha256(data).hexdigest())

    def finish(self, result: dict[str, Any] | None = None, *, code: int = 0, number: int = 0) -> None:
        if code == 0:
            self.say(type="result", result=result or {})
        self.exit(code, number)

    def exit(self, code: int, number: int = 0) -> None:
        for stream in (self.control, self.stdout, self.stderr):
            stream.close()
        frames.send_json(self.supervisor, {"type": "exit", "exit_code": code, "signal": number})
        with contextlib.suppress(EOFError, OSError):
            frames.receive_json(self.supervisor)


Script = Callable[[Worker], None]


@dataclass
class FakeContainer:
    """One container: what was asked, and the thread that plays it."""

    request: ContainerRequest
    killed: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    status: int = 0
    oom_killed: bool = False


class FakeEngine:
    """Plays one script per container, in order; the last one repeats."""

    def __init__(self, *scripts: Script, image_id: str = "", info: EngineInfo = HEALTHY, status: int = 0) -> None:
        self._scripts = list(scripts)
        self._info = info
        self._status = status
        self.image_id = image_id
        self.oom_killed = False
        self.containers: dict[str, FakeContainer] = {}
        self.workers: dict[str, Worker] = {}
        self.removed: list[str] = []
        self.networks: dict[str, dict[str, str]] = {}
        self.requests: list[ContainerRequest] = []
        self.used: Callable[[], Usage] = lambda: Usage(cpu_seconds=0.0)

    def info(self) -> EngineInfo:
        return self._info

    def image(self, image_id: str) -> ImageFacts | None:
        if image_id != self.image_id:
            return None
        return ImageFacts(image_id=image_id, volumes=frozenset(), env=(), healthcheck=False, working_dir="/")

    def load_image(self, archive: Iterable[bytes]) -> None:
        raise NotImplementedError

    def layer_chains(self) -> list[tuple[str, ...]]:
        raise NotImplementedError

    def create_network(self, name: str, *, labels: tuple[tuple[str, str], ...], subnet: str | None) -> bool:
        self.networks[name] = dict(labels) | {"subnet": subnet or ""}
        return True

    def remove_network(self, name: str, *, seconds: float | None = None) -> None:
        self.networks.pop(name, None)

    def owned_networks(self, label: str) -> list[OwnedNetwork]:
        key, _, value = label.partition("=")
        found = self.networks.items()
        return [OwnedNetwork(network_id=n, name=n, labels=x) for n, x in found if x.get(key) == value]

    def create_inert(self, image_id: str, *, name: str, labels: tuple[tuple[str, str], ...]) -> str:
        raise NotImplementedError

    def export(self, container_id: str) -> Iterator[bytes]:
        raise NotImplementedError

    def create(self, request: ContainerRequest) -> str:
        self.requests.append(request)
        identifier = f"container-{len(self.requests)}"
        self.containers[identifier] = FakeContainer(request)
        return identifier

    def start(self, container_id: str) -> None:
        container = self.containers[container_id]
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        path = str(container.request.folder / "socket/worker.sock")

        def play() -> None:
            with contextlib.suppress(OSError, EOFError):  # the host may hang up when it likes
                worker = Worker(path, container.killed)
                self.workers[container_id] = worker
                worker.wait_for_launch()
                script(worker)

        container.thread = threading.Thread(target=play, daemon=True)
        container.thread.start()

    def state(self, container_id: str) -> ContainerState:
        container = self.containers[container_id]
        running = container.thread is not None and container.thread.is_alive() and not container.killed.is_set()
        return ContainerState(
            running=running,
            pid=0,
            exit_code=137 if container.killed.is_set() else self._status,
            oom_killed=self.oom_killed,
            image_id=container.request.config.image_id,
            started="once",
            visitors=0,
            networks={"none": ""},
            host_config=create_body(container.request)["HostConfig"],
        )

    def usage(self, container_id: str) -> Usage:
        return self.used()

    def kill(self, container_id: str) -> None:
        self.containers[container_id].killed.set()

    def wait(self, container_id: str, *, seconds: float) -> bool:
        container = self.containers[container_id]
        if container.killed.is_set():
            return True
        assert container.thread is not None
        container.thread.join(seconds)
        return not container.thread.is_alive()

    def remove(self, container_id: str, *, seconds: float | None = None) -> None:
        """Take an id or a name, as the engine does."""
        named = [i for i, c in list(self.containers.items()) if container_id in (i, c.request.name)]
        for identifier in named:
            self.removed.append(identifier)
            del self.containers[identifier]

    def unremoved(self) -> frozenset[str]:
        return frozenset(c.request.name for c in list(self.containers.values()))

    def owned(self, label: str) -> list[OwnedContainer]:
        key, _, value = label.partition("=")
        return [
            OwnedContainer(container_id=i, name=c.request.name, labels=dict(c.request.labels))
            for i, c in list(self.containers.items())  # other threads make and remove some meanwhile
            if (key in dict(c.request.labels)) and value in ("", dict(c.request.labels)[key])
        ]
