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
    except zipfile.BadZipFile as err:
        raise UnsafeEntryError(f"not a wheel: {name}") from err
    members = {i.filename: i for i in archive.infolist() if not i.is_dir()}
    if len(members) != sum(not i.is_dir() for i in archive.infolist()):
        raise UnsafeEntryError(f"duplicate member in wheel {name}")
    record_name = _record_name(members, name)
    digests = _parse_record(archive.read(record_name).decode())
    folder = record_name.rpartition("/")[0]
    unlisted = {f"{folder}/{u}" for u in _UNLISTED}
    for member in sorted(members):
        path = _site_path(member, name)
        if member not in unlisted:
            _check_listed(digests.get(member), member, name)
        if path is None or not keeps(f"{SITE}/{path}"):
            continue
        if member in unlisted:
            yield Entry(path=f"{SITE}/{path}", kind=Kind.FILE, data=archive.read(member))
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
            return entry.read().decode()
    raise UnsafeEntryError(f"wheel without METADATA: {name}")


def _record_name(names: dict[str, zipfile.ZipInfo], wheel: str) -> str:
    found = [n for n in names if n.count("/") == 1 and n.endswith(".dist-info/RECORD")]
    if len(found) != 1:
        raise UnsafeEntryError(f"wheel without exactly one RECORD: {wheel}")
    return found[0]


def _parse_record(text: str) -> dict[str, str]:
    return {row[0]: row[1] for row in csv.reader(io.StringIO(text)) if len(row) > 1}


def _check_listed(expected: str | None, member: str, wheel: str) -> None:
    if not expected:
        raise UnsafeEntryError(f"file is not in RECORD of wheel {wheel}: {member}")
    algorithm = expected.partition("=")[0]
    if algorithm not in _DIGESTS:
        raise UnsafeEntryError(f"RECORD of wheel {wheel} uses {algorithm!r} for {member}")


def _stream(archive: zipfile.ZipFile, info: zipfile.ZipInfo, expected: str, wheel: str) -> Stream:
    def read() -> Iterator[bytes]:
        digest = hashlib.new(expected.partition("=")[0])
        try:
            with archive.open(info) as content:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError) as err:
            raise UnsafeEntryError(f"damaged file in wheel {wheel}: {info.filename}") from err
        if _encoded(digest.digest()) != expected.partition("=")[2]:
            raise UnsafeEntryError(f"file differs from RECORD of wheel {wheel}: {info.filename}")

    return Stream(size=info.file_size, digest=expected, open=read)


def _encoded(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _site_path(member: str, wheel: str) -> str | None:
    parts = member.split("/")
    if any(p in ("", ".", "..") for p in parts) or "\\" in member:
        raise UnsafeEntryError(f"unsafe path in wheel {wheel}: {member}")
    if parts[0].endswith(".data"):
        if len(parts) > 2 and parts[1] in ("purelib", "platlib"):
            return "/".join(parts[2:])
        return None
    return member
