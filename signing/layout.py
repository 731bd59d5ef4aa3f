"""What lies in a release directory: names, types, modes and bytes, read without following or trusting anything."""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from signing.encoding import sha256_hex
from signing.errors import VerificationError
from signing.manifest import FILE_MODE, FOLDER_MODE, Manifest, ManifestFile
from signing.value import Value

Item = TypeVar("Item")
_FOLDER_DEPTH_MAX = 16
_ENTRIES_MAX = 100_000
_SMALL_FILE_BYTES_MAX = 64 << 20
# A bundle over 1,000 artifacts with the longest of names has 2.1 MB; a decision's has its findings as well. To parse
# one takes up to 27 times its size in memory, before it is known whose it is (measured 2026-11-25).
BUNDLE_BYTES_MAX = 16 << 20
_CHUNK = 1 << 18  # stays in the second-level cache: pieces of 1 MiB took a quarter more CPU time (measured 2026-11-24)
_PARALLEL_FROM_BYTES = 4 << 20  # a smaller file costs more to hand over than to hash
_COPY_HINT = "copy releases with their modes (cp -a, tar), or verify with --modes executable"
_EXECUTABLE = 0o111
_SPECIAL = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


class Listing(Value):
    """What a walk found: permission bits by path. The release's own folder is the path `.`."""

    files: Mapping[str, int]
    folders: Mapping[str, int]


def list_release(folder: Path) -> Listing:
    """List a release, refusing everything but plain files and the folders on their way.

    Raises:
        VerificationError: There is anything else, or nothing, or too much.
    """
    try:
        if folder.is_symlink():
            why = f"release directory is a symbolic link: {folder}"
            raise VerificationError(why, check="LAYOUT", hint="name the directory that it leads to")
        files, folders = _walk(folder)
    except OSError as err:
        raise VerificationError(f"cannot list the release: {folder}: {err.strerror}", check="LAYOUT") from err
    return Listing(files=files, folders=folders)


def check_layout(found: Listing, manifest: Manifest) -> None:
    """Check that exactly the files of a complete release are there.

    Raises:
        VerificationError: One is missing, one is not listed, or a folder holds none.
    """
    expected = manifest.expected_paths()
    if missing := sorted(expected - found.files.keys()):
        raise VerificationError(f"file is missing: {missing[0]}", check="LAYOUT", file=missing[0])
    if unlisted := sorted(found.files.keys() - expected):
        raise VerificationError(f"file is not in the manifest: {unlisted[0]}", check="LAYOUT", file=unlisted[0])
    if empty := sorted(found.folders.keys() - _folders_of(expected)):
        raise VerificationError(f"empty folder: {empty[0]}", check="LAYOUT", file=empty[0])


def _folders_of(paths: set[str]) -> set[str]:
    """Return the folders on the way to files, the release's own among them."""
    folders, ways = {"."}, {path.rpartition("/")[0] for path in paths}
    while ways := ways - folders - {""}:
        folders |= ways
        ways = {way.rpartition("/")[0] for way in ways}
    return folders


def check_modes(found: Listing, *, exact: bool) -> None:
    """Check the permission bits of files and folders.

    Args:
        found: The listing.
        exact: Whether all of them must be as they were; else only that no file became executable. Of folders nothing
            is asked then: where groups share a file system, they have the set-group-ID bit.

    Raises:
        VerificationError: They are not.
    """
    for name, mode in found.files.items():
        if (mode != FILE_MODE) if exact else (mode & _EXECUTABLE):
            hint = _COPY_HINT if exact else "a released file is never executable: copy the release anew"
            raise _wrong_mode(name, mode, FILE_MODE, hint)
    for name, mode in found.folders.items() if exact else ():
        if mode != FOLDER_MODE:
            raise _wrong_mode(name, mode, FOLDER_MODE, _COPY_HINT)


def _wrong_mode(name: str, mode: int, wanted: int, hint: str) -> VerificationError:
    return VerificationError(f"mode is {mode:04o}, not {wanted:04o}: {name}", check="MODE", file=name, hint=hint)


def check_digests(folder: Path, files: tuple[ManifestFile, ...]) -> None:
    """Hash files and hold them against the manifest; large ones at the same time, where there are cores.

    Raises:
        VerificationError: One has another size or other bytes.
    """

    def check(item: ManifestFile) -> None:
        if hash_file(folder, item.path, size=item.size) != item.sha256:
            raise VerificationError(f"file is not what the manifest says: {item.path}", check="DIGEST", file=item.path)

    for_each(check, files, size=lambda item: item.size)


def for_each(work: Callable[[Item], None], items: Sequence[Item], *, size: Callable[[Item], int]) -> None:
    """Do something with each file: with the large ones at the same time, on as many cores as there are.

    Args:
        work: What to do. Of its errors that of the first item is raised.
        items: The files.
        size: An item's size in bytes.
    """
    cores = len(os.sched_getaffinity(0))
    large = [item for item in items if size(item) >= _PARALLEL_FROM_BYTES]
    if cores == 1 or len(large) < 2:
        for item in items:
            work(item)
        return
    from concurrent.futures import ThreadPoolExecutor  # not imported where a release is small

    with ThreadPoolExecutor(cores) as pool:
        futures = {id(item): pool.submit(work, item) for item in sorted(large, key=size, reverse=True)}
        for item in items:
            if id(item) in futures:
                futures[id(item)].result()
            else:
                work(item)


def hash_file(folder: Path, name: str, *, size: int | None) -> str:
    """Hash a file; where its size is known, one of another size is refused before it is read.

    Raises:
        VerificationError: It is no plain file, cannot be read, or is of another size.
    """
    with _open(folder, name) as descriptor:
        found = os.fstat(descriptor).st_size
        if size is not None and found != size:
            raise VerificationError(f"file has another size than the manifest says: {name}", check="DIGEST", file=name)
        return hash_descriptor(descriptor, found)


def hash_descriptor(descriptor: int, size: int) -> str:
    """Return the sha256 in hex of what a file holds from here on, of at most `size` bytes of it."""
    if size <= _CHUNK:  # a buffer would cost more than the file
        return sha256_hex(_read(descriptor, size))
    import hashlib  # which lets other threads run; not loaded where a release is small

    digest, left, buffer = hashlib.sha256(), size, memoryview(bytearray(_CHUNK))
    while left and (count := os.readv(descriptor, [buffer[: min(_CHUNK, left)]])):
        digest.update(buffer[:count])
        left -= count
    return digest.hexdigest()


def read_small(folder: Path, name: str, *, bytes_max: int = _SMALL_FILE_BYTES_MAX) -> bytes:
    """Read a file that cannot be large.

    Args:
        folder: Where it lies.
        name: Its path there.
        bytes_max: What it may have.

    Raises:
        VerificationError: It is, or it is no plain file, or cannot be read.
    """
    with _open(folder, name) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > bytes_max:
            raise VerificationError(f"file is too large: {name}", check="LAYOUT", file=name)
        return _read(descriptor, size)


def _read(descriptor: int, size: int) -> bytes:
    """Read as many bytes, or as there are; a read may give fewer."""
    data = os.read(descriptor, size)
    while len(data) < size and (more := os.read(descriptor, size - len(data))):
        data += more
    return data


@contextmanager
def _open(folder: Path, name: str) -> Iterator[int]:
    """Open a listed file, which may have become something else since it was listed."""
    try:
        descriptor = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise VerificationError(f"not a plain file: {name}", check="LAYOUT", file=name)
            yield descriptor
        finally:
            os.close(descriptor)
    except OSError as err:
        why = "is a symbolic link" if err.errno == errno.ELOOP else err.strerror
        raise VerificationError(f"cannot read {name}: {why}", check="LAYOUT", file=name) from err


def _walk(root: Path) -> tuple[dict[str, int], dict[str, int]]:
    files: dict[str, int] = {}
    folders = {".": stat.S_IMODE(root.stat().st_mode)}
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                name, mode = prefix + entry.name, entry.stat(follow_symlinks=False).st_mode
                special = stat.S_ISREG(mode) and mode & _SPECIAL
                if special or not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                    raise VerificationError(f"not a plain file: {name}", check="LAYOUT", file=name)
                if stat.S_ISREG(mode):
                    files[name] = stat.S_IMODE(mode)
                else:
                    folders[name] = stat.S_IMODE(mode)
                    waiting.append(f"{name}/")
                if name.count("/") > _FOLDER_DEPTH_MAX or len(files) + len(folders) > _ENTRIES_MAX:
                    raise VerificationError(
                        f"too deep, or too many files: {name[:100]}", check="LAYOUT", file=name[:100]
                    )
    return files, folders
