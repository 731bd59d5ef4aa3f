"""Read the files of a wheel, each checked against the wheel's own RECORD, without installing or running anything.

Format: PyPA binary distribution format. Console scripts and other `.data` schemes but `purelib` and `platlib` are left
out on purpose: the image has one executable.
"""

import base64
import csv
import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from images.errors import UnsafeEntryError
from images.tar import Entry, Kind, Stream

SITE = "usr/lib/python3/dist-packages"
_CHUNK = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1  # general purpose bit 0 (PKWARE APPNOTE 4.4.4)
# All that `zipfile` raises over an archive that is not what it should be.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
_DIGESTS = ("sha256", "sha384", "sha512")
# RECORD cannot list its own digest, nor those of its signatures.
_UNLISTED = ("RECORD", "RECORD.jws", "RECORD.p7s")


def read_wheel(file: BinaryIO, *, name: str, keeps: Callable[[str], bool]) -> Iterator[Entry]:
    """Yield the wheel's files under the image's site directory, sorted by path, to be read when they are written.

    Args:
        file: The whole wheel, already checked against its digest. Stays open for as long as the entries are used.
        name: Package name, for messages.
        keeps: Whether a path belongs in the image; what does not is never unpacked.

    Raises:
        UnsafeEntryError: A file that RECORD does not list or lists otherwise, or a path that leaves the site directory.
    """
    try:
        archive = zipfile.ZipFile(file)
    except _DAMAGE as err:
        raise UnsafeEntryError(f"not a wheel: {name}") from err
    members = _members(archive, name)
    record_name = _record_name(members, name)
    digests = _parse_record(archive, record_name, name)
    folder = record_name.rpartition("/")[0]
    unlisted = {f"{folder}/{u}" for u in _UNLISTED}
    if absent := sorted(set(digests) - set(members)):
        raise UnsafeEntryError(f"RECORD of wheel {name} lists a file that is not there: {absent[0]}")
    for member in sorted(members):
        path = _site_path(member, folder.removesuffix(".dist-info") + ".data", name)
        if member not in unlisted:
            _check_listed(digests.get(member), member, name)
        if path is None or not keeps(f"{SITE}/{path}"):
            continue
        if member in unlisted:
            yield Entry(path=f"{SITE}/{path}", kind=Kind.FILE, data=_read(archive, member, name))
        else:
            stream = _stream(archive, members[member], digests[member], name)
            yield Entry(path=f"{SITE}/{path}", kind=Kind.FILE, stream=stream)


def read_metadata(file: BinaryIO, *, name: str) -> str:
    """Return a wheel's METADATA, checked against its RECORD.

    Raises:
        UnsafeEntryError: It has none, or not the one that RECORD lists.
    """
    for entry in read_wheel(file, name=name, keeps=lambda path: path.endswith(".dist-info/METADATA")):
        if entry.path.count("/") == SITE.count("/") + 2:
            return entry.read().decode(errors="replace")
    raise UnsafeEntryError(f"wheel without METADATA: {name}")


def _record_name(names: dict[str, zipfile.ZipInfo], wheel: str) -> str:
    found = [n for n in names if n.count("/") == 1 and n.endswith(".dist-info/RECORD")]
    if len(found) != 1:
        raise UnsafeEntryError(f"wheel without exactly one RECORD: {wheel}")
    return found[0]


def _parse_record(archive: zipfile.ZipFile, record_name: str, wheel: str) -> dict[str, str]:
    try:
        rows = [r for r in csv.reader(io.StringIO(_read(archive, record_name, wheel).decode())) if len(r) > 1]
    except (csv.Error, UnicodeDecodeError) as err:
        raise UnsafeEntryError(f"RECORD cannot be read in wheel {wheel}") from err
    digests = {row[0]: row[1] for row in rows}
    if len(digests) != len(rows):
        raise UnsafeEntryError(f"RECORD of wheel {wheel} lists a file twice")
    return digests


def _members(archive: zipfile.ZipFile, wheel: str) -> dict[str, zipfile.ZipInfo]:
    if not all(i.filename for i in archive.infolist()):
        raise UnsafeEntryError(f"file without a name in wheel {wheel}")
    found = [i for i in archive.infolist() if not i.is_dir()]
    members = {i.filename: i for i in found}
    if len(members) != len(found):
        raise UnsafeEntryError(f"duplicate member in wheel {wheel}")
    for info in found:
        if info.compress_type not in _METHODS or info.flag_bits & _ENCRYPTED:
            raise UnsafeEntryError(f"file is packed in another way than wheels are: {info.filename!r} in {wheel}")
    return members


def _read(archive: zipfile.ZipFile, member: str, wheel: str) -> bytes:
    try:
        return archive.read(member)
    except _DAMAGE as err:
        raise UnsafeEntryError(f"damaged file in wheel {wheel}: {member}") from err


def _check_listed(expected: str | None, member: str, wheel: str) -> None:
    if not expected:
        raise UnsafeEntryError(f"file is not in RECORD of wheel {wheel}: {member}")
    algorithm = expected.partition("=")[0]
    if algorithm not in _DIGESTS:
        raise UnsafeEntryError(f"RECORD of wheel {wheel} uses {algorithm!r} for {member}")


def _stream(archive: zipfile.ZipFile, info: zipfile.ZipInfo, expected: str, wheel: str) -> Stream:
    def read() -> Iterator[bytes]:
        digest, size = hashlib.new(expected.partition("=")[0]), 0
        try:
            with archive.open(info) as content:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    yield chunk
        except _DAMAGE as err:
            raise UnsafeEntryError(f"damaged file in wheel {wheel}: {info.filename}") from err
        if size != info.file_size:
            raise UnsafeEntryError(f"file has another size than the archive says in wheel {wheel}: {info.filename}")
        if _encoded(digest.digest()) != expected.partition("=")[2]:
            raise UnsafeEntryError(f"file differs from RECORD of wheel {wheel}: {info.filename}")

    return Stream(size=info.file_size, digest=expected, open=read)


def _encoded(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _site_path(member: str, data: str, wheel: str) -> str | None:
    parts = member.split("/")
    if any(p in ("", ".", "..") for p in parts) or "\\" in member:
        raise UnsafeEntryError(f"unsafe path in wheel {wheel}: {member}")
    if parts[0] == data:
        if len(parts) > 2 and parts[1] in ("purelib", "platlib"):
            return "/".join(parts[2:])
        return None
    return member
