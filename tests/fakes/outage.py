"""A way to the container engine that can be cut or made to hang, as when the engine restarts or its host stops."""

import contextlib
import os
import socket
import threading
from pathlib import Path

_ENGINE = "/var/run/docker.sock"


class Line:
    """Passes everything on between a socket of its own and the engine's.

    Args:
        address: Where to listen. `DOCKER_HOST` names it for whoever is to be cut off.
    """

    def __init__(self, address: Path) -> None:
        self.address = address
        self._engine = os.environ.get("DOCKER_HOST", "").removeprefix("unix://") or _ENGINE
        self._streams: set[socket.socket] = set()
        self._passing = threading.Event()
        self._passing.set()
        self._server: socket.socket | None = None
        self.restore()

    def hang(self) -> None:
        """Pass nothing on any more, and close nothing."""
        self._passing.clear()

    def cut(self) -> None:
        """Close all connections and take no new ones."""
        if self._server is not None:
            self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
            self._server = None
            self.address.unlink()
        for stream in list(self._streams):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Be as before."""
        self._passing.set()
        if self._server is None:
            self._server = socket.socket(socket.AF_UNIX)
            self._server.bind(str(self.address))
            self._server.listen(64)
            threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._engine)
                self._streams |= {near, far}
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._passing.wait()
                target.sendall(data)
        for stream in (source, target):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
            self._streams.discard(stream)
