"""Small packages made on the spot: a .deb and a wheel, honest or not."""

import base64
import hashlib
import io
import lzma
import tarfile
import zipfile


def deb(files: dict[str, bytes | tarfile.TarInfo], *, member: str = "data.tar.xz") -> bytes:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o4755
            archive.addfile(info, io.BytesIO(content))
    parts = [("debian-binary", b"2.0\n"), (member, lzma.compress(inner.getvalue()))]
    data = b"!<arch>\n"
    for name, content in parts:
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        data += b"\n" * (len(content) % 2)
    return data


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def wheel(files: dict[str, bytes], *, record: dict[str, bytes] | None = None) -> bytes:
    """Make a wheel; `record` says what RECORD claims where that is not the truth."""
    claimed = files if record is None else record
    lines = []
    for name, content in claimed.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    lines.append("p-1.dist-info/RECORD,,")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("p-1.dist-info/RECORD", "\n".join(lines))
    return out.getvalue()
