"""Standard input, output and error, made sure of before anything else opens a file, and let go of at the end.

A caller may close any of the three. Then the next file that is opened takes its number, and what is printed goes into
it: into the state of runs, say. And what is left in a stream that cannot be written is written once more by the
interpreter as it ends, which then exits with a status of its own, 120.
"""

import os
import sys
from contextlib import suppress
from typing import TextIO

_STANDARD = 3


def open_missing() -> None:
    """Open those of the descriptors 0 to 2 that are closed, on the null device."""
    for descriptor in range(_STANDARD):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is this one
            os.set_inheritable(descriptor, True)
    sys.stdout = sys.stdout or _stream(1)
    sys.stderr = sys.stderr or _stream(2)


def let_go() -> None:
    """Write out what the streams still hold, or drop it where that cannot be."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
                stream.flush()


def _stream(descriptor: int) -> TextIO:
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
