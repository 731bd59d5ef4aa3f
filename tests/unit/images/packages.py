"""Small packages made on the spot, honest or not, and a small image made of them."""

import base64
import hashlib
import io
import lzma
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from images.build import Builder
from images.bytecode import BytecodeCache, UseOfBytecode
from images.definition import load_definition
from images.lock import ImageLock, LockedInput, SignedIndex, load_lock, parse_lock
from images.oci import make_image
from images.recipe import Recipe
from images.resolve import lock_bytes
from images.store import Blob, BlobStore


def deb(
    files: dict[str, bytes | tarfile.TarInfo],
    *,
    member: str = "data.tar.xz",
    control: str = "Package: p\nVersion: 1\n",
    md5sums: str = "",
) -> bytes:
    about: dict[str, bytes | tarfile.TarInfo] = {"./control": control.encode()}
    if md5sums:
        about["./md5sums"] = md5sums.encode()
    parts = [
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", lzma.compress(_tar(about))),
        (member, lzma.compress(_tar(files))),
    ]
    data = b"!<arch>\n"
    for name, content in parts:
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        data += b"\n" * (len(content) % 2)
    return data


def _tar(files: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o4755
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def wheel(files: dict[str, bytes], *, record: dict[str, bytes] | None = None, package: str = "p") -> bytes:
    """Make a wheel; `record` says what RECORD claims where that is not the truth."""
    claimed = files if record is None else record
    lines = []
    for name, content in claimed.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    lines.append(f"{package}-1.dist-info/RECORD,,")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{package}-1.dist-info/RECORD", "\n".join(lines))
    return out.getvalue()


def locked(kind: str, name: str, data: bytes, *, version: str = "1", **change: Any) -> LockedInput:
    """Return an input as a lock would have it."""
    size, sha256 = len(data), hashlib.sha256(data).hexdigest()
    if kind == "source":
        return LockedInput(kind=kind, name=name, size=size, sha256=sha256)
    filename = f"{name}-{version}-py3-none-any.whl" if kind == "wheel" else f"{name}_{version}_amd64.deb"
    item = LockedInput(
        kind=kind, name=name, size=size, sha256=sha256, version=version, filename=filename, why=("root",)
    )
    if kind == "deb":
        item = replace(item, arch="amd64", source=name, suite="bookworm")
    return replace(item, **change)


def keep(store: BlobStore, item: LockedInput, data: bytes) -> LockedInput:
    """Put an input into a store."""
    store.put(Blob(name=str(item), sha256=item.sha256, size=item.size), [data])
    return item


def silence(_text: str) -> None:
    """For a builder that nobody waits for."""


PACKAGES: dict[tuple[str, str], bytes] = {
    ("deb", "base"): deb(
        {"./usr/bin/python3.11": b"py", "./bin/sh": b"sh", "./etc/os": b"os", "./usr/share/man/m": b"m"}
    ),
    ("wheel", "torch"): wheel({"torch/lib.so": b"\x7fELF" * 9000, "torch/include/a.h": b"h"}, package="torch"),
    ("wheel", "small"): wheel({"small/data.bin": b"small"}, package="small"),
    ("source", "images/worker/job.txt"): b"worker",
}


class SmallImage:
    """An image of four inputs without a line of Python, so that nothing has to be compiled."""

    def __init__(self, folder: Path, packages: dict[tuple[str, str], bytes] = PACKAGES) -> None:
        self.folder = folder
        self.store = BlobStore(folder / "blobs")
        self.recipe: Recipe = replace(load_lock("cpu").recipe, compiler=())
        self.inputs = tuple(keep(self.store, locked(k, n, data), data) for (k, n), data in packages.items())

    def builder(self) -> Builder:
        cache = BytecodeCache(self.folder / "bytecode", interpreter=(), use=UseOfBytecode.KEEP)
        return Builder(self.recipe, self.inputs, store=self.store, bytecode=cache, say=silence)

    def lock(self) -> ImageLock:
        """Build everything into nowhere, and lock what comes out."""
        builder, out = self.builder(), io.BytesIO()
        layers = tuple(builder.write(name, out) for name in builder.layers)
        return self.lock_of(layers)

    def lock_of(self, layers: Any) -> ImageLock:
        definition = replace(load_definition("cpu"), recipe=self.recipe)
        index = SignedIndex(
            suite="bookworm", date="now", release_sha256="0" * 64, packages_sha256="0" * 64, signers=("A" * 40,)
        )
        image = make_image("cpu", self.recipe, layers)
        return parse_lock(lock_bytes(definition, (self.inputs, (index,)), image))
