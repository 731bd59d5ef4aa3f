"""Read the files of a Debian package without running anything of it.

A .deb is an `ar` archive with `control.tar.*` and `data.tar.*` (deb(5)). Only the data member is read; maintainer
scripts are never run, and special files are refused.
"""

import io
import lzma
import tarfile
from collections.abc import Iterator

from images.errors import UnsafeEntryError
from images.tar import Entry, Kind

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def read_deb(data: bytes, *, name: str) -> Iterator[Entry]:
    """Yield the package's files with usr-merged paths, in archive order.

    Args:
        data: The whole .deb, already checked against its digest.
        name: Package name, for messages.

    Raises:
        UnsafeEntryError: A device, FIFO or a path that leaves the root.
    """
    with tarfile.open(fileobj=io.BytesIO(_data_member(data, name))) as tar:
        for member in tar:
            path = merged(_relative(member.name, name))
            if not path:
                continue
            if member.isdir():
                yield Entry(path=path, kind=Kind.DIRECTORY)
            elif member.issym():
                yield Entry(path=path, kind=Kind.SYMLINK, target=member.linkname)
            elif member.isfile() or member.islnk():
                content = tar.extractfile(member)
                assert content is not None, "regular members and hard links have content"
                yield Entry(path=path, kind=Kind.FILE, data=content.read())
            else:
                raise UnsafeEntryError(f"special file in Debian package {name}: {member.name}")


def merged(path: str) -> str:
    """Map `/bin`, `/sbin` and `/lib*` under `/usr`, as every Debian since 12 has them."""
    top = path.split("/", 1)[0]
    return f"usr/{path}" if top in _MERGED else path


def _relative(path: str, package: str) -> str:
    parts = [p for p in path.split("/") if p not in ("", ".")]
    if ".." in parts:
        raise UnsafeEntryError(f"path leaves the root in Debian package {package}: {path}")
    return "/".join(parts)


def _data_member(deb: bytes, name: str) -> bytes:
    if not deb.startswith(b"!<arch>\n"):
        raise UnsafeEntryError(f"not a Debian package: {name}")
    offset = 8
    while offset + 60 <= len(deb):
        header = deb[offset : offset + 60]
        size = int(header[48:58])
        member = header[:16].rstrip().rstrip(b"/")
        body = deb[offset + 60 : offset + 60 + size]
        if member == b"data.tar.xz":
            return lzma.decompress(body)
        if member == b"data.tar":
            return body
        offset += 60 + size + size % 2
    raise UnsafeEntryError(f"no readable data member in Debian package: {name}", hint="known forms: .xz, uncompressed")
