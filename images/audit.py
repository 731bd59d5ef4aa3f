"""Hold a file system that an engine shows against what the lock builds: content, kind, mode, owner, nothing besides.

An engine trusts its own disk. A file altered under it runs in every container of the image, under the same image ID
(measured 2026-11 on 20.10), and `docker save` puts the recorded modes and names back, so that an added file or a setuid
bit does not show in it. What a container would see is therefore compared file by file.

Trust: the stream is the engine's, so it is read as data and nothing of it is unpacked.
"""

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from images.errors import InputError
from images.tar import BLOCK, Entry, Kind, Stream, mode_of

FINDINGS_MAX = 1000
# What Docker Engine itself adds to every container's root, and which it covers with mounts; each must be empty.
_ENGINE_FILES = frozenset({".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"})
_ENGINE_DIRECTORIES = frozenset({"dev/pts", "dev/shm"})
_ENGINE_LINKS = {"etc/mtab": "/proc/mounts"}
_CHUNK = 1 << 20
_PAX_KEYS = frozenset({"path", "linkpath"})  # whatever else is there, such as capabilities, is none of ours
_KINDS = {tarfile.REGTYPE: Kind.FILE, tarfile.SYMTYPE: Kind.SYMLINK, tarfile.DIRTYPE: Kind.DIRECTORY}


class Alteration(Enum):
    """How a path differs."""

    ADDED = "added"
    REMOVED = "removed"
    CONTENT = "content differs"
    KIND = "is something else"
    MODE = "mode or owner differs"
    ATTRIBUTES = "has extended attributes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One path that is not what the lock builds."""

    path: str
    alteration: Alteration

    def __str__(self) -> str:
        """For a terminal, which must not obey what a file is called."""
        path = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in self.path)
        return f"{path}: {self.alteration.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    kind: Kind
    mode: int
    content: str  # sha256 in hex, or a link's target


class ExpectedTree:
    """Collects what the layers hold, while they are built."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}

    def observe(self, entry: Entry) -> Entry:
        """Note an entry. A file's content is hashed while it passes."""
        node = _Node(kind=entry.kind, mode=mode_of(entry), content=entry.target)
        self._nodes[entry.path] = node
        if entry.kind is not Kind.FILE:
            return entry

        def chunks() -> Iterator[bytes]:
            digest = hashlib.sha256()
            for chunk in entry.chunks():
                digest.update(chunk)
                yield chunk
            self._nodes[entry.path] = replace(node, content=digest.hexdigest())

        return replace(entry, data=b"", stream=Stream(size=entry.size, digest=entry.digest, open=chunks))

    def compare(self, stream: Iterable[bytes]) -> list[Finding]:
        """Compare with a tar stream of a container's root, and return what differs, at most `FINDINGS_MAX`.

        Raises:
            InputError: The stream is no tar archive, or ends too soon.
        """
        found: list[Finding] = []
        left = dict(self._nodes)
        reader: Any = _Reader(iter(stream))  # has all that a stream's reader needs, of which its type asks more
        try:
            with tarfile.open(fileobj=reader, mode="r|", bufsize=_CHUNK) as archive:
                for member in archive:
                    path = member.name.strip("/")
                    expected = left.pop(path, None)
                    if path and (alteration := _look(archive, member, path, expected)) is not None:
                        found.append(Finding(path=path, alteration=alteration))
                    if len(found) >= FINDINGS_MAX:
                        return found
                end = archive.offset
        except (tarfile.TarError, EOFError, OverflowError, ValueError) as err:
            raise InputError(f"the engine sent something else than a file system: {err}") from err
        if not reader.ended_well(end):
            raise InputError("the engine sent something else than a whole file system: it ends too soon or goes on")
        found += [Finding(path=path, alteration=Alteration.REMOVED) for path in sorted(left)]
        return found[:FINDINGS_MAX]


def _look(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, expected: _Node | None) -> Alteration | None:
    if expected is None and not _is_engines(member, path):
        return Alteration.ADDED
    if not set(member.pax_headers) <= _PAX_KEYS:
        return Alteration.ATTRIBUTES
    if (member.uid, member.gid) != (0, 0):
        return Alteration.MODE
    if expected is None:
        return None
    if _KINDS.get(member.type) is not expected.kind:
        return Alteration.KIND
    if expected.kind is Kind.SYMLINK:
        return None if member.linkname == expected.content else Alteration.CONTENT
    if member.mode & 0o7777 != expected.mode:
        return Alteration.MODE
    if expected.kind is Kind.FILE and _sha256(archive, member) != expected.content:
        return Alteration.CONTENT
    return None


def _is_engines(member: tarfile.TarInfo, path: str) -> bool:
    if path in _ENGINE_FILES:
        return member.isreg() and member.size == 0 and member.mode & 0o7000 == 0
    if path in _ENGINE_DIRECTORIES:
        return member.isdir() and member.mode & 0o7000 == 0
    return member.issym() and _ENGINE_LINKS.get(path) == member.linkname


def _sha256(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = archive.extractfile(member)
    assert content is not None, "regular members have content"
    digest = hashlib.sha256()
    while chunk := content.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


class _Reader:
    """Gives a stream of chunks the one method that `tarfile` needs."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = bytearray()
        self._size = 0
        self._nonzero = 0  # where the last byte that is not zero ends

    def ended_well(self, end: int) -> bool:
        """Read to the end, and tell whether nothing but two or more empty blocks follows the last member.

        `tarfile` takes an archive that is cut off, or that goes on after an empty or a damaged block, for a whole one.

        Args:
            end: Where the last member ended, in bytes.
        """
        while self.read(_CHUNK):
            pass
        return self._nonzero <= end and self._size >= end + 2 * BLOCK

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, None)) is not None:
            self._rest += chunk
        taken = bytes(self._rest[:size])
        del self._rest[:size]
        if rest := len(taken.rstrip(b"\0")):
            self._nonzero = self._size + rest
        self._size += len(taken)
        return taken
