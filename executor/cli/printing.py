"""Printing of outcomes that stand, whoever hears of them."""

import sys
from typing import TextIO


def say(stream: TextIO, text: str) -> None:
    """Write a line. What ended has ended as it has: a reader that has gone, or a full disk, changes no exit code."""
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError as err:
        if stream is not sys.stderr:
            say(sys.stderr, f"warning: the result could not be written: {err.strerror}")
