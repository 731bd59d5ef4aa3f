"""Unix sockets in folders whose path may be longer than a socket address can hold (unix(7): 108 bytes)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def address_in(folder: Path, name: str) -> Iterator[str]:
    """Give the address of a socket in a folder; good as long as this lasts."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
