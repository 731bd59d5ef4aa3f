"""Inputs and code: taken into a content-addressed store, checked, and laid out read-only for a container."""

import base64
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from executor.canonical import digest_of
from executor.errors import Cancelled, RequestError, host_error
from signing.files import create, make_folder, write_whole

_CHUNK = 1 << 20
_ELF = b"\x7fELF"
_CODE_BYTES_MAX = 64 << 20
_CODE_FILES_MAX = 2000
_CODE_DEPTH_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTree:
    """The caller's code as it was read: names, contents and their tree digest.

    Attributes:
        entry: The file to run, relative.
        files: Relative path and content, sorted by path.
        sha256: sha256 of the canonical JSON of `[[path, sha256 of content], ...]`, in hex.
    """

    entry: str
    files: tuple[tuple[str, bytes], ...]
    sha256: str


def read_code(path: Path, entry: str | None) -> CodeTree:
    """Read a file or a directory of code.

    Raises:
        RequestError: It cannot be read, is too large, holds a link or special file, or lacks its entry.
    """
    try:
        kind = path.stat().st_mode
    except OSError as err:
        raise RequestError(f"no code at {path}: {err.strerror}") from err
    if stat.S_ISREG(kind):
        if entry not in (None, path.name):
            raise RequestError(f"code is the single file {path.name}, so its entry cannot be {entry!r}")
        found = [(path.name, path)]
        entry = path.name
    elif stat.S_ISDIR(kind):
        if entry is None:
            raise RequestError(f"code is a directory: {path}", hint="name the file to run in `code.entry`")
        found = sorted(_walk(path))
    else:
        raise RequestError(f"code is neither a file nor a folder: {path}")
    files = _read_files(found)
    if entry not in {name for name, _ in files}:
        raise RequestError(f"code has no file {entry!r}: {path}")
    return CodeTree(entry=entry, files=files, sha256=_tree_digest(files))


def keep_code(root: Path, tree: CodeTree) -> None:
    """Keep a code tree in the store, by its digest, for a reproduction. A damaged copy is replaced."""
    path = root / "code" / tree.sha256
    if load_code(root, tree.sha256, tree.entry) is None:
        make_folder(path.parent, mode=0o700, parents=True, exist_ok=True)
        files = [[name, base64.b64encode(data).decode()] for name, data in tree.files]
        write_whole(path, json.dumps(files).encode(), mode=0o600)


def load_code(root: Path, sha256: str, entry: str) -> CodeTree | None:
    """Return a code tree from the store, or None where it is not, or not what its digest says."""
    try:
        files = tuple(
            (name, base64.b64decode(data)) for name, data in json.loads((root / "code" / sha256).read_bytes())
        )
    except (OSError, ValueError, TypeError):
        return None
    return CodeTree(entry=entry, files=files, sha256=sha256) if _tree_digest(files) == sha256 else None


def lay_out_code(tree: CodeTree, folder: Path) -> None:
    """Write a code tree into an empty folder, readable by every user."""
    for name, data in tree.files:
        target = folder / name
        make_folder(target.parent, mode=0o755, parents=True, exist_ok=True)
        create(target, data, mode=0o444)
    folder.chmod(0o755)


def link_tree(source: Path, target: Path) -> None:
    """Give a folder that exists the files of another one on the same file system, by hard links."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            make_folder(copy, mode=0o755, exist_ok=True)
        else:
            copy.hardlink_to(path)


def locate(uri: str, base: Path) -> Path:
    """Return the file that an input's URI names.

    Raises:
        RequestError: A scheme that this executor does not fetch from.
    """
    parts = urlsplit(uri)
    if parts.scheme == "":
        return base / uri
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    raise RequestError(f"cannot fetch an input from {parts.scheme}: {uri}", hint="use a path or a file: URI")


def size_of(path: Path, name: str) -> int:
    """Return an input's size in bytes, as the file system has it.

    Raises:
        RequestError: It is not there, or no regular file.
    """
    try:
        seen = path.stat()
    except (OSError, ValueError) as err:
        raise RequestError(f"cannot read input {name!r}: {path}: {getattr(err, 'strerror', '') or err}") from err
    if not stat.S_ISREG(seen.st_mode):
        raise RequestError(f"input {name!r} is not a regular file: {path}")
    return seen.st_size


class InputStore:
    """Inputs by digest, kept for reproductions. Files are read-only and never change once they are there."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path_of(self, sha256: str) -> Path:
        """Return where the file with a digest lies, if it is there."""
        return self._root / "sha256" / sha256[:2] / sha256

    def keep(self, file: Path, sha256: str) -> None:
        """Move a file of the same file system, which was seen to have a digest, into the store.

        Raises:
            HostError: It cannot be moved.
        """
        target = self.path_of(sha256)
        try:
            make_folder(target.parent, mode=0o700, parents=True, exist_ok=True)
            os.replace(file, target)
        except OSError as err:
            raise host_error(err, f"cannot keep an input: {target}") from err


def copy_input(
    source: Path,
    place: Path,
    *,
    sha256: str,
    name: str,
    bytes_max: int,
    native: bool,
    cancelled: Callable[[], bool],
) -> int:
    """Copy a file to where a job will see it, hashing on the way.

    The copy is the run's own: how many links a file has would tell a job who else uses it.

    Args:
        source: The file.
        place: Where the copy shall be. There is nothing yet.
        sha256: The digest that it must have, in hex.
        name: Its name in the job, for messages.
        bytes_max: What is left of the job's limit on its inputs.
        native: Whether it may be a native library: only where the policy lists this digest as a plugin's.
        cancelled: Asked between pieces whether to stop.

    Returns:
        Its size in bytes.

    Raises:
        Cancelled: Somebody asked to stop.
        RequestError: It cannot be read, is no regular file, is too large, is a native library, or has another digest
            than the job names.
    """
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            actual = _copy_hashed(source, out.write, name, bytes_max, native, cancelled)
            os.fchmod(descriptor, 0o444)
        if actual != sha256:
            raise RequestError(
                f"input {name!r} has sha256 {actual}, the job names {sha256}: {source}",
                hint="if the new content is wanted, put its digest into the job file",
            )
    except BaseException:
        place.unlink(missing_ok=True)
        raise
    return place.stat().st_size


def outside_of(path: Path, home: Path, *, what: str) -> Path:
    """Return a path that does not lead into the executor's own state, where its keys are.

    Raises:
        RequestError: It does.
    """
    try:
        inside = path.resolve().is_relative_to(home.resolve())
    except (OSError, RuntimeError) as err:  # of links that lead in a circle
        raise RequestError(f"{what} cannot be found: {path}: {err}") from err
    if inside:
        raise RequestError(f"{what} lies in the executor's own state directory: {path}")
    return path


def is_native(head: bytes) -> bool:
    """Whether the dynamic loader would take a file for a library or program, by its first four bytes."""
    return head.startswith(_ELF)


def refuse_native(data: bytes, *, what: str) -> None:
    """Refuse a file that the dynamic loader would load.

    It would run outside of the image's digest. The mounts of inputs and code cannot prevent it: runtimes drop `noexec`
    from them. The loader takes a file for a library by its first bytes alone (ELF specification, e_ident).

    Raises:
        RequestError: It is one.
    """
    if is_native(data):
        raise RequestError(
            f"{what} is a native library or program (ELF)", hint="native code comes from the image alone"
        )


def _copy_hashed(
    source: Path,
    write: Callable[[bytes], object],
    name: str,
    bytes_max: int,
    native: bool,
    cancelled: Callable[[], bool],
) -> str:
    digest, size = hashlib.sha256(), 0
    try:
        # Not blocking: opening a pipe would wait for a writer that may never come.
        with os.fdopen(os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            seen = os.fstat(file.fileno())
            if not stat.S_ISREG(seen.st_mode):
                raise RequestError(f"input {name!r} is not a regular file: {source}")
            if seen.st_size > bytes_max:  # before a byte of it is copied
                raise _too_large(name, source, bytes_max)
            while chunk := file.read(_CHUNK):
                if size == 0 and not native:
                    refuse_native(chunk, what=f"input {name!r}")
                size += len(chunk)
                if size > bytes_max:  # it grew
                    raise _too_large(name, source, bytes_max)
                if cancelled():
                    raise Cancelled("the run was cancelled")
                digest.update(chunk)
                try:
                    write(chunk)
                except OSError as err:
                    raise host_error(err, f"cannot keep input {name!r}") from err
    except OSError as err:
        raise RequestError(f"cannot read input {name!r}: {source}: {err.strerror}") from err
    return digest.hexdigest()


def _too_large(name: str, source: Path, bytes_max: int) -> RequestError:
    return RequestError(f"input {name!r} is larger than the {bytes_max} bytes left of limits.input_bytes: {source}")


def _tree_digest(files: tuple[tuple[str, bytes], ...]) -> str:
    return digest_of([[name, hashlib.sha256(data).hexdigest()] for name, data in files])


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files under a folder, each with its name there, without a call of its own for every level."""
    folders = [(root, 0)]
    while folders:
        folder, depth = folders.pop()
        if depth > _CODE_DEPTH_MAX:
            raise RequestError(f"code is more than {_CODE_DEPTH_MAX} folders deep: {root}")
        try:
            entries = list(os.scandir(folder))
        except OSError as err:
            raise RequestError(f"cannot read code: {folder}: {err.strerror}") from err
        for entry in entries:
            if entry.name == "__pycache__":
                continue
            path = folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append((path, depth + 1))
            elif not entry.is_file(follow_symlinks=False):
                raise RequestError(f"code holds a link or a special file: {path}")
            else:
                yield path.relative_to(root).as_posix(), path


def _read_files(found: list[tuple[str, Path]]) -> tuple[tuple[str, bytes], ...]:
    if len(found) > _CODE_FILES_MAX:
        raise RequestError(f"code has more than {_CODE_FILES_MAX} files")
    files, size = [], 0
    for name, path in found:
        try:
            with path.open("rb") as file:
                data = file.read(_CODE_BYTES_MAX + 1 - size)
        except OSError as err:
            raise RequestError(f"cannot read code: {path}: {err.strerror}") from err
        refuse_native(data, what=f"code file {name!r}")
        size += len(data)
        if size > _CODE_BYTES_MAX:
            raise RequestError(f"code is larger than {_CODE_BYTES_MAX} bytes")
        files.append((name, data))
    try:
        "".join(name for name, _ in files).encode()
    except UnicodeEncodeError as err:
        raise RequestError("code holds a file whose name is not Unicode") from err
    return tuple(files)
