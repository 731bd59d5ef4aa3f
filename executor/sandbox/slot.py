"""A slot: one sealed container that has started, opened its channels, and waits for its one launch.

The data path is a unix socket in a folder that the container sees read-only; the engine is not in it. The worker opens
four channels and then the listener closes and its name goes, so that nothing else in the container can connect.

A slot is the same thing whether it is opened for a job that waits or ahead of any: same request, same protocol. Only
that a warm one has imported what its kind of job needs before it says that it is ready.
"""

import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from executor.errors import Cancelled, ExecutorError, HostError, ImageMismatchError, JobError, UnsupportedError
from executor.sandbox.cgroup import limit_tcp_memory
from executor.sandbox.config import MOUNTS, ContainerRequest, SandboxConfig, host_config_digest
from executor.sandbox.engine import UNSEEN, UNSEEN_HINT, ContainerState, Engine
from executor.sandbox.protocol import PROTOCOL, Channel, Prepare, WorkerExit
from executor.sandbox.sockets import address_in
from executor.sandbox.users import LABEL_USER, UserLease, lease_user
from executor.transfer.frames import FrameDecoder, Message, encode_message
from signing.files import make_folder

_SOCKET = "worker.sock"
_START_SECONDS_MAX = 60.0
_WARM_SECONDS_MAX = 120.0  # to import torch on a busy machine; 3 s on an idle one
_TICK_SECONDS = 0.25
_GREETING_BYTES_MAX = 4096


class Lease(Protocol):
    """Who sees to it that a slot's container goes."""

    def end(self) -> bool | None:
        """Have the container removed. Return whether it is known to be gone; None where that is left to others."""

    def leave(self) -> bool | None:
        """Leave the removal to who comes after, and wait for nothing. Return as `end` does."""


class WarmSlots(Protocol):
    """Where slots wait that were opened ahead of any job."""

    def take(self, kind: str, config: SandboxConfig) -> "Slot | None":
        """Return one that is ready for this kind under exactly this configuration, or None. It is the caller's now."""

    def close(self) -> None:
        """Say that the run needs no more of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A container that waits for its one launch.

    Attributes:
        request: What the engine was asked for.
        container: The engine's ID of it.
        kind: The kind of job that it is ready for.
        pid: Its process 1, as the host numbers it.
        host_config_sha256: What the engine says that it is restricted to, in hex.
        started: When, in the engine's words.
        warm: Whether it was ready before anybody asked.
        channels: Connected streams by name; whoever has the slot owns them.
        lease: Removes it.
        seconds: Wall time of `create` and `start`.
    """

    request: ContainerRequest
    container: str
    kind: str
    pid: int
    host_config_sha256: str
    started: str
    warm: bool
    channels: Mapping[Channel, socket.socket]
    lease: Lease
    seconds: Mapping[str, float]

    @property
    def folder(self) -> Path:
        """The host's folder with the three that the container sees."""
        return self.request.folder

    def shut(self) -> None:
        """Close the channels. A container whose process 1 still listens ends itself."""
        _close_all(self.channels)


class OwnLease:
    """The lease of a container that this process made: it removes it itself."""

    def __init__(self, engine: Engine, name: str, user: UserLease | None = None) -> None:
        self._engine = engine
        self._name = name
        self._user = user

    def end(self) -> bool:
        """Remove the container. What became of its job is known by now and stays so if this fails."""
        try:
            self._engine.remove(self._name)
        except HostError:
            return False
        finally:
            self.leave()
        return True

    def leave(self) -> bool:
        """Leave the container to the process that cleans up after this one, which asks until it is gone."""
        if self._user is not None:  # a container that is still there keeps it by its label
            self._user.close()
        return False


def make_folders(folder: Path) -> None:
    """Make the folders that the container will see. Their parent is ours alone."""
    for name, _ in MOUNTS:
        make_folder(folder / name, mode=0o755, parents=True)


def open_slot(
    engine: Engine,
    request: ContainerRequest,
    *,
    users: Path,
    kind: str,
    preload: bool,
    lease_seconds: float,
    cancelled: Callable[[], bool],
) -> Slot:
    """Start a container and bring it to where it waits for its launch.

    Args:
        engine: Where it runs.
        request: The container, without a user. Its folder has been through `make_folders`.
        users: The file of the state directory by which users are leased.
        kind: The kind of job that it will run.
        preload: Import what the kind needs now, and return only when that is done.
        lease_seconds: How long it waits for a launch before it ends itself.
        cancelled: Asked several times a second whether to stop.

    Raises:
        HostError: The engine failed, or the container did not come up.
        ImageMismatchError: The engine made the container of another image than was asked.
        Cancelled: Somebody asked to stop.
    """
    clock, seconds = time.monotonic, {}
    channels: dict[Channel, socket.socket] = {}
    with ExitStack() as undo:
        with listen(request.folder / "socket", _SOCKET) as server:
            began = clock()
            request, container, lease = _create(engine, request, users)
            undo.callback(lease.end)
            undo.callback(_close_all, channels)
            seconds["create"], began = clock() - began, clock()
            state = _start(engine, container, request)
            prepare = Prepare(
                kind=kind,
                threads=request.config.threads,
                preload=preload,
                lease_seconds=lease_seconds,
                egress=request.config.network == "allowlist",
            )
            _Reception(engine, container, server, channels, cancelled).receive(prepare)
            seconds["start"] = clock() - began
        (request.folder / "socket" / _SOCKET).unlink()
        undo.pop_all()
    return Slot(
        request=request,
        container=container,
        kind=kind,
        pid=state.pid,
        host_config_sha256=host_config_digest(state.host_config, request.folder),
        started=state.started,
        warm=False,
        channels=channels,
        lease=lease,
        seconds=seconds,
    )


def _create(engine: Engine, request: ContainerRequest, users: Path) -> tuple[ContainerRequest, str, OwnLease]:
    """Make a container whose user no other container of the engine has."""
    with ExitStack() as passed_over:
        while True:
            user = lease_user(users, request.config.users)
            labels = (*request.labels, (LABEL_USER, str(user.number)))
            made = replace(request, user=user.number, labels=labels)
            lease = OwnLease(engine, request.name, user)
            try:
                container = engine.create(made)
                if not _is_shared(engine, container, str(user.number)):
                    return made, container, lease
                engine.remove(request.name)
                passed_over.callback(user.close)  # so that the next one is another
            except BaseException:
                lease.end()  # by name: an answer that never came may have made it all the same
                raise


def _start(engine: Engine, container: str, request: ContainerRequest) -> ContainerState:
    """Start a container that was made of the image that was asked for, and bound what the engine does not."""
    engine.start(container)
    state = engine.state(container)
    if state.image_id != request.config.image_id:
        raise ImageMismatchError(
            f"the engine made the container of {state.image_id}, asked was {request.config.image_id}"
        )
    limit_tcp_memory(state.pid, container=container)
    return state


def _is_shared(engine: Engine, container: str, user: str) -> bool:
    """Whether another container has the same user: of another state directory, or of one that died."""
    return any(c.labels[LABEL_USER] == user and c.container_id != container for c in engine.owned(LABEL_USER))


def _close_all(channels: Mapping[Channel, socket.socket]) -> None:
    for stream in channels.values():
        stream.close()


class _Reception:
    """Takes the worker's channels as they come, and refuses whatever else wants in."""

    def __init__(
        self,
        engine: Engine,
        container: str,
        server: socket.socket,
        channels: dict[Channel, socket.socket],
        cancelled: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._container = container
        self._server = server
        self._channels = channels
        self._cancelled = cancelled

    def receive(self, prepare: Prepare) -> None:
        """Take all channels, and the word that imports are done where there are some to do."""
        deadline = time.monotonic() + _START_SECONDS_MAX
        while len(self._channels) < len(Channel):
            stream, channel = self._accept(deadline)
            self._channels[channel] = stream
            if channel is Channel.SUPERVISOR:
                ready = self._greeting(stream, "ready", deadline)
                if ready.get("protocol") != PROTOCOL:
                    raise HostError(f"the image's worker speaks protocol {ready.get('protocol')!r}, not {PROTOCOL}")
                stream.sendall(encode_message(prepare.to_wire()))
        if prepare.preload:
            self._greeting(self._channels[Channel.CONTROL], "warm", time.monotonic() + _WARM_SECONDS_MAX)

    def _accept(self, deadline: float) -> tuple[socket.socket, Channel]:
        while True:
            try:
                stream, _ = self._server.accept()
                break
            except TimeoutError:
                self._check(deadline)
        stream.settimeout(_TICK_SECONDS)
        name = self._exactly(stream, 1, deadline)
        channel = next((c for c in Channel if c.value == name and c not in self._channels), None)
        if channel is None:
            stream.close()
            raise HostError("something in the container opened a channel that is not the worker's")
        return stream, channel

    def _greeting(self, stream: socket.socket, kind: str, deadline: float) -> dict[str, Any]:
        """Read the one message that must come now, and not a byte more."""
        head = self._exactly(stream, 5, deadline)
        (size,) = struct.unpack(">I", head[1:])
        if size > _GREETING_BYTES_MAX:
            raise HostError("the worker's greeting is too long")
        try:
            (frame,) = FrameDecoder().feed(head + self._exactly(stream, size, deadline))
        except JobError as err:
            raise HostError("the worker's greeting is malformed") from err
        if not isinstance(frame, Message) or frame.value.get("type") != kind:
            raise HostError(f"the worker did not say {kind!r}")
        return frame.value

    def _exactly(self, stream: socket.socket, size: int, deadline: float) -> bytes:
        data = b""
        while len(data) < size:
            try:
                piece = stream.recv(size - len(data))
            except TimeoutError:
                self._check(deadline)
                continue
            except OSError:
                piece = b""
            if not piece:
                raise HostError("the container went away while it came up")
            data += piece
        return data

    def _check(self, deadline: float) -> None:
        if self._cancelled():
            raise Cancelled("the run was cancelled")
        state = self._engine.state(self._container)
        if not state.running and state.exit_code == WorkerExit.UNCONNECTED:
            raise UnsupportedError(f"the container does not find the host's socket: {UNSEEN}", hint=UNSEEN_HINT)
        if not state.running:
            raise HostError(f"the container ended before it spoke, status {state.exit_code}")
        if time.monotonic() > deadline:
            raise HostError("the container did not come up in time")


def listen(folder: Path, name: str) -> socket.socket:
    """Listen on a socket for a container, in a folder that it sees."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address_in(folder, name) as address:
            server.bind(address)
        (folder / name).chmod(0o666)  # the container's user connects; the folder's parent is ours alone
        server.listen(64)
        server.settimeout(_TICK_SECONDS)
    except OSError:
        server.close()
        raise
    return server


def end_quietly(lease: Lease) -> None:
    """End a lease on the way out of something that went wrong anyway."""
    try:
        lease.end()
    except ExecutorError:
        return
