"""A clock that the test moves."""

import time
from collections.abc import Callable


class Clock:
    """Stands still until it is moved, so that no test depends on how fast the machine is.

    Attributes:
        now: What it shows, in seconds.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def until(condition: Callable[[], object], *, seconds: float = 60) -> None:
    """Wait for what another thread or process does; the time is for the case that it never does it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
