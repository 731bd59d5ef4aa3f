"""A run's side of the pool: asks for a slot, and holds the connection for as long as it has it."""

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any

from executor.errors import HostError
from executor.pool.wire import SOCKET, connect, receive, send
from executor.sandbox.config import ContainerRequest, SandboxConfig
from executor.sandbox.engine import Engine
from executor.sandbox.protocol import Channel
from executor.sandbox.slot import OwnLease, Slot
from executor.state.home import Home
from executor.state.owner import discard_run_folder, this_process

_END_SECONDS = 5.0
_ANSWER_SECONDS = 20.0  # several containers may have to be looked at and discarded


class PoolClient:
    """Takes slots from the pool of a state directory, if one runs. Whatever goes wrong with it is a miss.

    Args:
        home: The state directory.
        engine: To remove a container where the pool no longer can.
        wall_seconds: How long a run may take at most.
    """

    def __init__(self, home: Home, engine: Engine, *, wall_seconds: float) -> None:
        self._home = home
        self._engine = engine
        self._wall_seconds = wall_seconds
        self._misses: list[socket.socket] = []

    def take(self, kind: str, config: SandboxConfig) -> Slot | None:
        """Return a slot that is ready for this kind under exactly this configuration, or None.

        The pool is told of a miss until `close`: it starts nothing for later while this run starts its own.
        """
        try:
            stream = connect(self._home.pool, seconds=_ANSWER_SECONDS)
        except (OSError, HostError):
            return None
        began = time.monotonic()
        try:
            owner = str(this_process(deadline=time.time() + self._wall_seconds))
            send(stream, {"op": "take", "kind": kind, "sandbox_sha256": config.digest, "owner": owner})
            answer, descriptors = receive(stream, len(Channel))
        except (OSError, EOFError, ValueError):
            stream.close()
            return None
        streams = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if answer.get("op") != "hit" or len(streams) != len(Channel):
            for channel in streams:
                channel.close()
            self._misses.append(stream)
            return None
        lease = _PoolLease(stream, self._engine, str(answer["name"]), Path(str(answer["folder"])))
        return self._slot(answer, kind, config, streams, lease, began)

    def close(self) -> None:
        """Tell the pool that this run needs nothing more of it."""
        while self._misses:
            with contextlib.suppress(OSError):
                self._misses.pop().close()

    def _slot(
        self,
        answer: dict[str, Any],
        kind: str,
        config: SandboxConfig,
        streams: list[socket.socket],
        lease: "_PoolLease",
        began: float,
    ) -> Slot:
        folder = Path(str(answer["folder"]))
        return Slot(
            request=ContainerRequest(name=str(answer["name"]), config=config, folder=folder, labels=()),
            container=str(answer["container"]),
            kind=kind,
            pid=int(answer["pid"]),
            host_config_sha256=str(answer["host_config_sha256"]),
            started=str(answer["started"]),
            warm=True,
            channels=dict(zip(Channel, streams, strict=True)),
            lease=lease,
            seconds={"take": time.monotonic() - began},
        )


class _PoolLease:
    """The lease of a container that the pool made: the pool removes it, and this process where the pool is gone."""

    def __init__(self, stream: socket.socket, engine: Engine, name: str, folder: Path) -> None:
        self._stream = stream
        self._own = OwnLease(engine, name)
        self._folder = folder

    def end(self) -> bool | None:
        with contextlib.closing(self._stream):
            try:
                self._stream.settimeout(_END_SECONDS)
                send(self._stream, {"op": "end"})
                receive(self._stream)
            except (OSError, EOFError, ValueError):  # the pool is going, or gone
                removed = self._own.end()
                discard_run_folder(self._folder)
                return removed
        return None

    def leave(self) -> None:
        """Leave it to the pool, which sees the connection end."""
        self._stream.close()


def ask(home: Home, operation: str, *, seconds: float) -> dict[str, Any] | None:
    """Ask the pool for its status, or to stop; None where none runs.

    Raises:
        HostError: It does not answer.
    """
    if not os.path.lexists(home.pool / SOCKET):
        return None
    try:
        with connect(home.pool, seconds=seconds) as stream:
            send(stream, {"op": operation})
            answer, _ = receive(stream)
    except (ConnectionRefusedError, FileNotFoundError):
        return None
    except (OSError, EOFError, ValueError) as err:
        raise HostError("the pool does not answer", hint="see its log, log/pool.log in the state directory") from err
    return answer
