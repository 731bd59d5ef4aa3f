"""The pool's callers: some threads wait for them at any time, and each caller is served by the one that received it."""

import socket
import threading
import time
from collections.abc import Callable

from executor.pool.wire import is_same_user

_CALLERS_MAX = 512
_RECEIVERS = 4
_ACCEPT_SECONDS = 0.2
_TICK_SECONDS = 0.05


class Callers:
    """Receives callers and has them served.

    Args:
        serve: Serves one caller, until it is done with it; raises nothing.
        stopping: Set when no more are to be received.
        say: Told what happens, for the log.
    """

    def __init__(
        self, serve: Callable[[socket.socket], None], *, stopping: threading.Event, say: Callable[[str], None]
    ) -> None:
        self._serve = serve
        self._stopping = stopping
        self._say = say
        self._lock = threading.Lock()
        self._callers = 0
        self._receivers = 0
        self._receiver_gone = threading.Event()

    def receive(self, server: socket.socket, *, tick: Callable[[], None]) -> None:
        """Receive callers until it is time to stop.

        Args:
            server: Where they call.
            tick: Called now and then.
        """
        server.settimeout(_ACCEPT_SECONDS)
        while not self._stopping.is_set():
            self._keep_receivers(server)
            self._receiver_gone.wait(_TICK_SECONDS)
            self._receiver_gone.clear()
            tick()
        while self._receivers:  # the socket must not close under them
            time.sleep(_TICK_SECONDS)

    def _keep_receivers(self, server: socket.socket) -> None:
        """See to it that some threads wait for callers: to start one only when a caller is there costs it time."""
        while self._receivers < _RECEIVERS and not self._stopping.is_set():
            with self._lock:
                self._receivers += 1
            try:
                threading.Thread(target=self._receive_one, args=(server,), name="caller", daemon=True).start()
            except RuntimeError as err:
                self._say(f"no more callers can be received: {err}")
                with self._lock:
                    self._receivers -= 1
                return

    def _receive_one(self, server: socket.socket) -> None:
        """Wait for one caller and have it served. Another thread waits for the next one."""
        stream = None
        try:
            while stream is None and not self._stopping.is_set():
                stream = self._accept(server)
        finally:
            with self._lock:
                self._receivers -= 1
            self._receiver_gone.set()
        if stream is not None:
            try:
                self._serve(stream)
            finally:
                stream.close()
                with self._lock:
                    self._callers -= 1

    def _accept(self, server: socket.socket) -> socket.socket | None:
        try:
            stream, _ = server.accept()
        except TimeoutError:
            return None
        except OSError as err:  # such as no descriptors left: jobs that end free some
            self._say(f"a caller could not be received: {err}")
            time.sleep(_TICK_SECONDS)
            return None
        with self._lock:
            welcome = is_same_user(stream) and self._callers < _CALLERS_MAX
            self._callers += welcome
        if not welcome:
            stream.close()
            return None
        return stream
