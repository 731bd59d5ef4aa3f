"""A deterministic tar writer: equal entries give equal bytes, on any machine and under any Python.

Python's `tarfile` is not used for writing, because its choice of header form has changed between versions. The form is
POSIX.1-2001: ustar headers, with a pax extended header only where a name does not fit (IEEE Std 1003.1-2017, pax).
Owners are always 0:0, the time is always the image's epoch, and modes are one of four.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, assert_never

BLOCK = 512
NAME_BYTES_MAX = 100  # ustar name and linkname fields
SIZE_BYTES_MAX = 0o77777777777  # eleven octal digits: 8 GiB - 1


class Kind(Enum):
    """What an entry is. Devices, FIFOs and hard links cannot be expressed."""

    FILE = b"0"
    SYMLINK = b"2"
    DIRECTORY = b"5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Content that is read when it is written: the files of an image are larger than memory should have to be.

    Attributes:
        size: In bytes.
        digest: `sha256=` and URL-safe base64 without padding, as a wheel's RECORD has it.
        open: Yields the content, and raises at its end if that is not what `digest` says.
    """

    size: int
    digest: str
    open: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member of a layer.

    Attributes:
        path: Relative, without a leading slash or a trailing one, `/` between segments.
        kind: File, symlink or directory.
        data: Content of a file, else empty.
        stream: Content of a file that is not in `data`.
        target: Target of a symlink, else the empty string.
        executable: Whether a file gets mode 0755 in place of 0644.
        mode: Overrides the mode (only for world-writable directories such as `/tmp`).
    """

    path: str
    kind: Kind
    data: bytes = b""
    stream: Stream | None = None
    target: str = ""
    executable: bool = False
    mode: int | None = None

    @property
    def size(self) -> int:
        """Bytes of a file's content."""
        return len(self.data) if self.stream is None else self.stream.size

    @property
    def digest(self) -> str:
        """Digest of a file's content, in the form of `Stream.digest`."""
        return record_digest(self.data) if self.stream is None else self.stream.digest

    @property
    def identity(self) -> tuple[object, ...]:
        """All that the entry puts into an image: equal where nothing would differ."""
        return (self.path, self.kind, self.digest, self.target, self.executable, self.mode)

    def chunks(self) -> Iterator[bytes]:
        """Yield a file's content."""
        return iter((self.data,)) if self.stream is None else self.stream.open()

    def read(self) -> bytes:
        """Return a file's content."""
        return self.data if self.stream is None else b"".join(self.stream.open())


def record_digest(data: bytes) -> str:
    """Return the sha256 of bytes in the form of a wheel's RECORD."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class TarDigest:
    """What was written: sha256 in hex and the size in bytes."""

    sha256: str
    size: int


def write_tar(out: BinaryIO, entries: Iterable[Entry], *, epoch: int) -> TarDigest:
    """Write entries in the order given, and hash them on the way.

    Args:
        out: Where the bytes go.
        entries: Members in their final order.
        epoch: Modification time of every member, in seconds since 1970.

    Returns:
        Digest and size of all bytes written.
    """
    digest = hashlib.sha256()
    size = 0

    def emit(data: bytes) -> None:
        nonlocal size
        out.write(data)
        digest.update(data)
        size += len(data)

    for entry in entries:
        for chunk in member(entry, epoch=epoch):
            emit(chunk)
    emit(end_of_archive())
    return TarDigest(sha256=digest.hexdigest(), size=size)


def member(entry: Entry, *, epoch: int) -> Iterator[bytes]:
    """Yield all bytes of one member: header, content, padding.

    Raises:
        ValueError: Its content has another size than its header says.
    """
    yield header(entry, epoch=epoch)
    if entry.kind is not Kind.FILE:
        return
    written = 0
    for chunk in entry.chunks():
        written += len(chunk)
        yield chunk
    if written != entry.size:
        raise ValueError(f"content of {entry.path} has {written} bytes, not {entry.size}")
    yield padding(written)


def end_of_archive() -> bytes:
    """Return what closes an archive: two empty blocks."""
    return bytes(2 * BLOCK)


def padding(size: int) -> bytes:
    """Return what fills a member of `size` bytes up to a whole block."""
    return bytes(-size % BLOCK)


def header(entry: Entry, *, epoch: int) -> bytes:
    """Return the header blocks of a member."""
    size = entry.size if entry.kind is Kind.FILE else 0
    path = entry.path + "/" if entry.kind is Kind.DIRECTORY else entry.path
    records = b""
    for key, value in (("path", path), ("linkpath", entry.target)):
        if len(value.encode()) > NAME_BYTES_MAX or not value.isascii():
            records += _pax_record(key, value)
    extended = b""
    if records:
        extended = _ustar(b"pax-header", b"", len(records), b"x", 0o644, epoch)
        extended += records + padding(len(records))
    plain = _ustar(_fit(path), _fit(entry.target), size, entry.kind.value, mode_of(entry), epoch)
    return extended + plain


def _fit(name: str) -> bytes:
    return name.encode("ascii", "replace")[:NAME_BYTES_MAX]


def mode_of(entry: Entry) -> int:
    """Return the permission bits that a member gets."""
    if entry.mode is not None:
        return entry.mode
    match entry.kind:
        case Kind.FILE:
            return 0o755 if entry.executable else 0o644
        case Kind.SYMLINK:
            return 0o777
        case Kind.DIRECTORY:
            return 0o755
        case _:
            assert_never(entry.kind)


def _pax_record(key: str, value: str) -> bytes:
    """One `LENGTH key=value` line, where LENGTH counts itself."""
    body = b" " + key.encode() + b"=" + value.encode() + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def _ustar(name: bytes, link: bytes, size: int, flag: bytes, mode: int, epoch: int) -> bytes:
    if size > SIZE_BYTES_MAX:
        raise ValueError(f"tar member is larger than 8 GiB: {name!r}")
    block = bytearray(BLOCK)
    block[0 : len(name)] = name
    block[100:108] = b"%07o\0" % mode
    block[108:124] = b"0000000\0" * 2
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % epoch
    block[148:156] = b" " * 8
    block[156:157] = flag
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\x0000"
    block[329:345] = b"0000000\0" * 2  # device numbers, as GNU tar has them
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
