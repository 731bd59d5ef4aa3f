"""A process that outlives the executor by a few seconds: it waits for its death, and cleans up after it.

It is a fork of the executor from before anything was started, in a session of its own, with nothing open but one end of
a pipe. The other end closes when the executor ends, however it ends; a byte before says that there is nothing to do.
"""

import contextlib
import os
import signal
import time
from datetime import UTC, datetime
from typing import NoReturn

from executor.errors import HostError
from executor.home import Home
from executor.recovery import recover
from executor.sandbox.docker import DockerEngine

# The engine may still be about to make a container that the dead executor asked for: it has a minute for that.
_PASSES_SECONDS = (0.0, 1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class Reaper:
    """Watches over this process until it is told that all is well."""

    def __init__(self, home: Home) -> None:
        try:
            reader, self._writer = os.pipe()
            self._pid = os.fork()
        except OSError as err:
            raise HostError(f"no process can be started to watch over this one: {err.strerror}") from err
        if self._pid == 0:
            _be_reaper(reader, home)
        os.close(reader)

    def __enter__(self) -> "Reaper":
        return self

    def __exit__(self, *_: object) -> None:
        """Let it go: what this process started is gone, or is known to the state of runs."""
        with contextlib.suppress(OSError):  # it may have been killed itself
            os.write(self._writer, b".")
        os.close(self._writer)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _be_reaper(reader: int, home: Home) -> NoReturn:
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.dup2(reader, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # nobody must wait for this process to close them
            os.dup2(null, descriptor)
        if os.read(3, 1) == b"":
            _clean_up(home)
    finally:
        os._exit(0)


def _clean_up(home: Home) -> None:
    """Clean up several times over. Nobody hears of what goes wrong here; the next run tries again."""
    for seconds in _PASSES_SECONDS:
        time.sleep(seconds)
        with contextlib.suppress(Exception):
            recover(_engine(), home, now=lambda: datetime.now(UTC))


def _engine() -> DockerEngine | None:
    """The engine, if it answers: folders and records need none."""
    try:
        return DockerEngine()
    except HostError:
        return None
