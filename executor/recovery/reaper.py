"""A process that outlives the executor: it waits for its end, and cleans up after it where there is something to clean.

It is a fork of the executor from before anything was started, in a session of its own, with nothing open but one end of
a pipe. The other end closes when the executor ends, however it ends; a byte before says that there is nothing to do.
That byte is not sent while a container is owed: one that the engine did not remove, or may have made without saying so.
Then this process asks the engine until it has answered and nothing is left, however long that takes.
"""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from executor.errors import HostError, host_error
from executor.recovery.sweep import recover
from executor.sandbox.docker import DockerEngine
from executor.state.home import Home
from executor.state.owner import abandoned
from signing.files import open_appending

_FIRST_PASSES_SECONDS = (0.0, 1.0, 1.0, 2.0)
_PASS_SECONDS = 4.0
_ENGINE_SECONDS = 2.0  # that the engine has to say its version: one that hangs is asked again
_LATE_SECONDS = 60.0  # in which an engine may still make a container that the dead executor asked for


class Reaper:
    """Watches over this process until it is told that all is well.

    Args:
        home: The state directory to clean up.

    Attributes:
        owed: Returns the containers that this process could not remove; set once there is an engine.
    """

    def __init__(self, home: Home) -> None:
        self.owed: Callable[[], Collection[str]] = tuple
        try:
            reader, self._writer = os.pipe()
            self._pid = os.fork()
        except OSError as err:
            raise host_error(err, "no process can be started to watch over this one") from err
        if self._pid == 0:
            _be_reaper(reader, home)
        os.close(reader)

    def __enter__(self) -> "Reaper":
        return self

    def __exit__(self, *_: object) -> None:
        """Let it go, unless a container is owed: whatever else was started is gone, or in the state of runs."""
        is_owed = bool(self.owed())
        with contextlib.suppress(OSError):  # it may have been killed itself, or be nobody's child to wait for
            if not is_owed:
                os.write(self._writer, b".")
            os.close(self._writer)
            if not is_owed:
                os.waitpid(self._pid, 0)


def _be_reaper(reader: int, home: Home) -> NoReturn:
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.dup2(reader, 3)
        for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:  # the limit may be 2^30
            if descriptor > 3:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # nobody must wait for this process to close them
            os.dup2(null, descriptor)
        if os.read(3, 1) == b"":
            _clean_up(home)
    finally:
        os._exit(0)


def _clean_up(home: Home) -> None:
    """Clean up until nothing is left. Nobody hears of what goes wrong here; the next run tries again."""
    with contextlib.suppress(BlockingIOError), _turn(home):
        died, passes = time.monotonic(), iter(_FIRST_PASSES_SECONDS)
        folder = _identity(home.root)
        while folder is not None and _identity(home.root) == folder:  # a folder that was removed needs no clean-up
            time.sleep(next(passes, _PASS_SECONDS))
            left = True
            with contextlib.suppress(Exception):
                engine = _engine()
                recover(engine, home, now=lambda: datetime.now(UTC))
                left = engine is None or any(abandoned(engine, home))
            if not left and time.monotonic() - died > _LATE_SECONDS:
                return


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another of its name, or None where there is none."""
    try:
        seen = folder.stat()
    except OSError:
        return None
    return seen.st_dev, seen.st_ino


@contextlib.contextmanager
def _turn(home: Home) -> Iterator[None]:
    """Hold the state directory's clean-up lock, after the process that holds it now.

    Raises:
        BlockingIOError: Another process waits for the lock already; its clean-up will cover this process's as well.
    """
    with open_appending(home.root / "reaper.next", mode=0o600) as waiting:
        fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open_appending(home.root / "reaper.lock", mode=0o600) as working:
            fcntl.flock(working, fcntl.LOCK_EX)
            fcntl.flock(waiting, fcntl.LOCK_UN)
            yield


def _engine() -> DockerEngine | None:
    """The engine, if it answers: folders and records need none."""
    try:
        return DockerEngine(first_seconds=_ENGINE_SECONDS)
    except HostError:
        return None
