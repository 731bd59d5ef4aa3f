"""Files that are there whole or not at all, also after a crash; and those that somebody named, whatever they are."""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path

NAMED_BYTES_MAX = 256 << 20
_STAGED = ".new-"
_REMOVAL_TRIES = 2
_STALE_SECONDS = 24 * 3600  # no file takes a day to write: its writer died


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


def staged_path(folder: Path) -> Path:
    """Return a new name under which a file is written before it has its own. No two writers get the same."""
    return folder / f"{_STAGED}{os.urandom(8).hex()}"


def staged_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are being written, or that a writer left that died."""
    return list(folder.glob(f"{_STAGED}*"))


def write_whole(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file beside its name, have the disk hold it, and give it its name.

    Any number of writers may write one name at once: one of them is the last, and its file is whole.

    Args:
        path: Where it shall be. What lies there is replaced.
        data: All of it.
        mode: Permission bits, whatever the umask is.

    Raises:
        OSError: It could not be written. What lay there lies there still, and nothing else.
    """
    _sweep(path.parent)
    staged = staged_path(path.parent)
    try:
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(staged, path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _sweep(folder: Path) -> None:
    for path in staged_files(folder):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()


def make_folder(folder: Path, *, mode: int, parents: bool = False, exist_ok: bool = False) -> None:
    """Make a folder.

    Args:
        folder: Where it shall be.
        mode: Permission bits, whatever the umask is.
        parents: Make those above it that are missing as well, in the same way.
        exist_ok: Leave a folder that is there already as it is.

    Raises:
        OSError: It cannot be made, or something else is there.
    """
    if parents and not folder.parent.exists():
        make_folder(folder.parent, mode=mode, parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not exist_ok or not folder.is_dir():
            raise
        return
    folder.chmod(mode)


def remove_folder(folder: Path, *, last: str = "") -> None:
    """Remove a folder with all that it holds, as far as that can be done, and raise nothing.

    `shutil.rmtree` stops and raises where a close fails, also where it is to ignore errors (Python 3.11, seen 2026-11).

    Args:
        folder: The folder.
        last: The name in it of a file that goes after everything else: it says whose the rest is.
    """
    import shutil  # imports archive formats, which verification does not need

    for _ in range(_REMOVAL_TRIES):
        with contextlib.suppress(OSError):
            _empty(folder, but=last, rmtree=shutil.rmtree)
            shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return


def _empty(folder: Path, *, but: str, rmtree: Callable[..., None]) -> None:
    for path in folder.iterdir() if but else ():
        if path.is_dir() and not path.is_symlink():
            rmtree(path, ignore_errors=True)
        elif path.name != but:
            path.unlink(missing_ok=True)


def create(path: Path, data: bytes, *, mode: int) -> None:
    """Write a small file that nobody reads before this returns, with these permission bits whatever the umask is.

    Raises:
        OSError: It cannot be written, or something is there already.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)


def open_appending(path: Path, *, mode: int) -> FileIO:
    """Open a file to append to it, unbuffered. One that is made has these permission bits, whatever the umask is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, mode)
    return FileIO(descriptor, "ab")


def sync_folder(folder: Path) -> None:
    """Have the disk hold a folder's names."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
