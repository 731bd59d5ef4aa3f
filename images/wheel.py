"""Read the files of a wheel, each checked against the wheel's own RECORD, without installing or running anything.

Format: PyPA binary distribution format. Console scripts and other `.data` schemes but `purelib` and `platlib` are left
out on purpose: the image has one executable.
"""

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Iterator

from images.errors import UnsafeEntryError
from images.tar import Entry, Kind

SITE = "usr/lib/python3/dist-packages"


def read_wheel(data: bytes, *, name: str) -> Iterator[Entry]:
    """Yield the wheel's files under the image's site directory, sorted by path.

    Args:
        data: The whole wheel, already checked against its digest.
        name: Package name, for messages.

    Raises:
        UnsafeEntryError: A file that RECORD does not list or lists otherwise, or a path that leaves the site directory.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [i.filename for i in archive.infolist() if not i.is_dir()]
        if len(set(names)) != len(names):
            raise UnsafeEntryError(f"duplicate member in wheel {name}")
        record_name = _record_name(names, name)
        digests = _parse_record(archive.read(record_name).decode())
        for member in sorted(names):
            content = archive.read(member)
            _check_record(content, digests.get(member), member, name, is_record=member.startswith(record_name))
            path = _site_path(member, name)
            if path is not None:
                yield Entry(path=f"{SITE}/{path}", kind=Kind.FILE, data=content)


def _record_name(names: list[str], wheel: str) -> str:
    found = [n for n in names if n.count("/") == 1 and n.endswith(".dist-info/RECORD")]
    if len(found) != 1:
        raise UnsafeEntryError(f"wheel without exactly one RECORD: {wheel}")
    return found[0]


def _parse_record(text: str) -> dict[str, str]:
    return {row[0]: row[1] for row in csv.reader(io.StringIO(text)) if row}


def _check_record(content: bytes, expected: str | None, member: str, wheel: str, *, is_record: bool) -> None:
    if is_record:  # RECORD cannot list its own digest, nor those of RECORD.jws and RECORD.p7s
        return
    if not expected:
        raise UnsafeEntryError(f"file is not in RECORD of wheel {wheel}: {member}")
    algorithm, _, value = expected.partition("=")
    if algorithm not in ("sha256", "sha384", "sha512"):
        raise UnsafeEntryError(f"RECORD of wheel {wheel} uses {algorithm!r} for {member}")
    actual = base64.urlsafe_b64encode(hashlib.new(algorithm, content).digest()).rstrip(b"=").decode()
    if actual != value:
        raise UnsafeEntryError(f"file differs from RECORD of wheel {wheel}: {member}")


def _site_path(member: str, wheel: str) -> str | None:
    parts = member.split("/")
    if any(p in ("", ".", "..") for p in parts) or "\\" in member:
        raise UnsafeEntryError(f"unsafe path in wheel {wheel}: {member}")
    if parts[0].endswith(".data"):
        if len(parts) > 2 and parts[1] in ("purelib", "platlib"):
            return "/".join(parts[2:])
        return None
    return member
