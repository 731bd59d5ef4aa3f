"""Printing of outcomes that stand, whoever hears of them."""

import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from executor.events import Subscriber


def say(stream: TextIO, text: str) -> None:
    """Write a line. What ended has ended as it has: a reader that has gone, or a full disk, changes no exit code."""
    if not text:
        return
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError as err:
        if stream is not sys.stderr:
            say(sys.stderr, f"warning: the result could not be written: {err.strerror}")


class Sinks:
    """Where a run's events go. What happens to one of them, on the way or as it is closed, decides over nothing.

    Attributes:
        subscribers: In the order in which they were added.
        lost: Why some could not be closed.
    """

    def __init__(self) -> None:
        self._open: list[AbstractContextManager[Subscriber]] = []
        self.subscribers: tuple[Subscriber, ...] = ()
        self.lost: list[str] = []

    def add(self, sink: AbstractContextManager["Subscriber"]) -> None:
        """Open a sink. What it raises then is raised: nothing has begun yet."""
        self.subscribers += (sink.__enter__(),)
        self._open.append(sink)

    def close(self) -> None:
        """Close all of them."""
        while self._open:
            try:
                self._open.pop().__exit__(None, None, None)
            except Exception as err:  # whatever a file system, a reader or a terminal makes of it
                self.lost.append(f"{type(err).__name__}: {err}")
