"""Files that are there whole or not at all, also after a crash; and those that somebody named, whatever they are."""

import errno
import os
import stat
from pathlib import Path

NAMED_BYTES_MAX = 256 << 20


def read_named(path: Path) -> bytes:
    """Read a file that somebody named, of at most 256 MiB: a trust document holds 43 bytes for each entry of a log.

    Raises:
        OSError: It is missing, cannot be read, is no file that ends, or is larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a plain file", str(path))
        if found.st_size > NAMED_BYTES_MAX:
            raise OSError(errno.EFBIG, f"more than {NAMED_BYTES_MAX} bytes", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(NAMED_BYTES_MAX)
    finally:
        os.close(descriptor)


def staged_path(path: Path) -> Path:
    """Return where a file is written before it has its name. A writer that dies leaves it."""
    return path.with_name(f".{path.name}.new")


def write_whole(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file beside its name, have the disk hold it, and give it its name.

    Args:
        path: Where it shall be. What lies there is replaced.
        data: All of it.
        mode: Permission bits, from the first byte on.
    """
    staged = staged_path(path)
    staged.unlink(missing_ok=True)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(staged, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the disk hold a folder's names."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
