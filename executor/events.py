"""The event stream: JSON lines for programs, with a gap-free `seq`, the last one being `result`.

Callers ignore event names and fields that they do not know.
"""

import json
import time
from collections.abc import Callable
from typing import Any, TextIO

SCHEMA = "executor.event/v1"
Subscriber = Callable[[dict[str, Any]], None]


class Events:
    """Numbers events and hands them to every subscriber.

    Args:
        run_id: The run that they belong to.
        subscribers: Called in order with each event. One that fails is dropped.

    Attributes:
        lost: Why subscribers were dropped.
    """

    def __init__(self, run_id: str, subscribers: tuple[Subscriber, ...] = ()) -> None:
        self._run_id = run_id
        self._subscribers = list(subscribers)
        self.lost: list[str] = []
        self._seq = 0

    def emit(self, event: str, **fields: Any) -> None:
        """Send one event."""
        if not self._subscribers:
            return
        head = {"schema": SCHEMA, "seq": self._seq, "ts": round(time.time(), 3), "run_id": self._run_id, "event": event}
        self._seq += 1
        for subscriber in list(self._subscribers):
            try:
                subscriber(head | fields)
            except Exception as err:  # a reader that has gone, or a display that cannot cope, decides over nothing
                self._subscribers.remove(subscriber)
                self.lost.append(f"{type(err).__name__}: {err}")


def json_lines(stream: TextIO) -> Subscriber:
    """Return a subscriber that writes one JSON object a line, flushed at once."""

    def write(event: dict[str, Any]) -> None:
        stream.write(json.dumps(event, separators=(",", ":")) + "\n")
        stream.flush()

    return write
