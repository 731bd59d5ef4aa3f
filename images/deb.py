"""Read the files of a Debian package without running anything of it.

A .deb is an `ar` archive with `control.tar.*` and `data.tar.*` (deb(5)). Maintainer scripts are never run, and special
files are refused.
"""

import io
import lzma
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser

from images.errors import UnsafeEntryError
from images.tar import Entry, Kind

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deb:
    """A Debian package.

    Attributes:
        control: The control paragraph as it is in the package.
        md5sums: Lines of `MD5  path`, as `dpkg --verify` and scanners read them; empty where the package has none.
        entries: Its files with usr-merged paths, in archive order, directories left out.
    """

    control: str
    md5sums: str
    entries: tuple[Entry, ...]

    @property
    def fields(self) -> Mapping[str, str]:
        """The control fields by name; continued lines are joined."""
        parsed = HeaderParser().parsestr(self.control)
        return {key: " ".join(str(value).split()) for key, value in parsed.items()}


def read_deb(data: bytes, *, name: str) -> Deb:
    """Read a package.

    Args:
        data: The whole .deb, already checked against its digest.
        name: Package name, for messages.

    Raises:
        UnsafeEntryError: A device, FIFO, a path that leaves the root, or no Debian package at all.
    """
    try:
        control = _control_files(_member(data, "control", name))
        return Deb(
            control=control.get("control", b"").decode(),
            md5sums=control.get("md5sums", b"").decode(),
            entries=tuple(_entries(_member(data, "data", name), name)),
        )
    except (tarfile.TarError, lzma.LZMAError, EOFError, OverflowError, ValueError) as err:
        raise UnsafeEntryError(f"Debian package cannot be read: {name}") from err


def merged(path: str) -> str:
    """Map `/bin`, `/sbin` and `/lib*` under `/usr`, as every Debian since 12 has them."""
    top = path.split("/", 1)[0]
    return f"usr/{path}" if top in _MERGED else path


def _entries(archive: bytes, name: str) -> Iterator[Entry]:
    contents: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        for member in tar:
            path = merged(_relative(member.name, name))
            if not path or member.isdir():
                continue
            if member.issym():
                yield Entry(path=path, kind=Kind.SYMLINK, target=member.linkname)
                continue
            if member.isreg() and not member.issparse():
                content = tar.extractfile(member)
                assert content is not None, "regular members have content"
                contents[path] = content.read()
            elif member.islnk():  # to a file that came before it, or to nothing
                contents[path] = _linked(contents, merged(_relative(member.linkname, name)), name)
            else:
                raise UnsafeEntryError(f"special file in Debian package {name}: {member.name}")
            yield Entry(path=path, kind=Kind.FILE, data=contents[path])


def _linked(contents: Mapping[str, bytes], target: str, name: str) -> bytes:
    if target not in contents:
        raise UnsafeEntryError(f"hard link to no file before it in Debian package {name}: {target}")
    return contents[target]


def _control_files(archive: bytes) -> dict[str, bytes]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
            if content is not None:
                found[member.name.removeprefix("./")] = content.read()
    return found


def _relative(path: str, package: str) -> str:
    parts = [p for p in path.split("/") if p not in ("", ".")]
    if ".." in parts:
        raise UnsafeEntryError(f"path leaves the root in Debian package {package}: {path}")
    return "/".join(parts)


def _member(deb: bytes, wanted: str, name: str) -> bytes:
    if not deb.startswith(b"!<arch>\n"):
        raise UnsafeEntryError(f"not a Debian package: {name}")
    offset = 8
    while offset + 60 <= len(deb):
        header = deb[offset : offset + 60]
        digits = header[48:58].rstrip()
        if not digits.isdigit():
            raise UnsafeEntryError(f"not a Debian package: {name}")
        size = int(digits)
        member = header[:16].decode("ascii", "replace").rstrip().rstrip("/")
        body = deb[offset + 60 : offset + 60 + size]
        if member == f"{wanted}.tar.xz":
            return lzma.decompress(body)
        if member == f"{wanted}.tar":
            return body
        offset += 60 + size + size % 2
    raise UnsafeEntryError(
        f"no readable {wanted} member in Debian package: {name}", hint="known forms: .xz, uncompressed"
    )
