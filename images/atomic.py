"""Write a file whole or not at all."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_PREFIX = ".partial-"
_STALE_SECONDS = 24 * 3600  # what is older was left behind by a process that was killed


@contextmanager
def replacing(folder: Path, name: Callable[[], Path], *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Give a new file, and put it in its place at the end, unless something was raised.

    Args:
        folder: Where the file is written aside; on the file system of its place.
        name: Its place, asked once everything is written.
        mode: Its permission bits.

    Raises:
        OSError: It could not be written, or its place is a directory.
    """
    _sweep(folder)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=_PREFIX)
    try:
        with os.fdopen(descriptor, "wb") as out:
            yield out
            os.fchmod(out.fileno(), mode)
        os.replace(temporary, name())
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_file(target: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write bytes to a path, making its folder if needed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target.parent, lambda: target, mode=mode) as out:
        out.write(data)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()
