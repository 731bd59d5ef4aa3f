"""The image lock: what goes into an image, and the digests that must come out.

The lock names inputs by kind, name, version, size and sha256, never by a mirror. This reader is what the executor
uses to pin an image, so it imports the standard library alone.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images.errors import LockError

SCHEMA = "executor.image-lock/v1"
_HEX = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedInput:
    """One pinned package.

    Attributes:
        kind: `deb` or `wheel`.
        name: Package name.
        version: Exact version.
        filename: Name of the file, without any location.
        size: In bytes.
        sha256: Hex digest of the file.
        why: `root`, or the packages that require it.
    """

    kind: str
    name: str
    version: str
    filename: str
    size: int
    sha256: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a build must give: `sha256:` digests."""

    image_id: str
    manifest: str
    layers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLock:
    """A parsed lock.

    Attributes:
        name: Image name, the word that a job file uses.
        epoch: Time of every file, in seconds since 1970.
        inputs: All packages, debs first, each sorted by name.
        expect: The digests that must come out.
        digest: sha256 of the lock file's bytes, in hex.
    """

    name: str
    epoch: int
    inputs: tuple[LockedInput, ...]
    expect: Expected
    digest: str


def lock_path(name: str) -> Path:
    """Return where the lock of an image lies in this distribution.

    Raises:
        LockError: The name is not one that an image can have.
    """
    if not _NAME.fullmatch(name):
        raise LockError(f"not an image name: {name!r}", hint="image names look like cpu or cuda")
    return Path(__file__).parent / f"{name}.lock.json"


def known_images() -> tuple[str, ...]:
    """Return the names of all images that have a lock."""
    suffix = ".lock.json"
    return tuple(sorted(p.name.removesuffix(suffix) for p in Path(__file__).parent.glob(f"*{suffix}")))


def load_lock(name: str) -> ImageLock:
    """Read and check the lock of an image.

    Raises:
        LockError: There is no such lock, or it is malformed.
    """
    path = lock_path(name)
    try:
        data = path.read_bytes()
    except FileNotFoundError as err:
        known = ", ".join(known_images()) or "none"
        raise LockError(f"no image named {name!r} is locked", hint=f"locked images: {known}") from err
    return parse_lock(data)


def parse_lock(data: bytes) -> ImageLock:
    """Parse a lock file.

    Raises:
        LockError: Not JSON, another schema, a missing field or a malformed digest.
    """
    try:
        doc = json.loads(data)
        if doc["schema"] != SCHEMA:
            raise LockError(f"image lock has schema {doc['schema']!r}, expected {SCHEMA!r}")
        expect = doc["expect"]
        return ImageLock(
            name=_text(doc["name"]),
            epoch=int(doc["epoch"]),
            inputs=tuple(_parse_input(i) for i in doc["inputs"]),
            expect=Expected(
                image_id=_sha256_uri(expect["image_id"]),
                manifest=_sha256_uri(expect["manifest"]),
                layers=tuple((_text(n), _sha256_uri(d)) for n, d in expect["layers"]),
            ),
            digest=hashlib.sha256(data).hexdigest(),
        )
    except (KeyError, TypeError, ValueError) as err:
        raise LockError(f"image lock is malformed: {err}") from err


def _parse_input(item: dict[str, Any]) -> LockedInput:
    if item["kind"] not in ("deb", "wheel"):
        raise ValueError(f"unknown kind of input: {item['kind']!r}")
    if not _HEX.fullmatch(item["sha256"]):
        raise ValueError(f"not a sha256 digest: {item['sha256']!r}")
    filename = _text(item["filename"])
    if "/" in filename or filename.startswith("."):
        raise ValueError(f"not a plain file name: {filename!r}")
    return LockedInput(
        kind=item["kind"],
        name=_text(item["name"]),
        version=_text(item["version"]),
        filename=filename,
        size=int(item["size"]),
        sha256=item["sha256"],
        why=_text(item["why"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a non-empty string, got {value!r}")
    return value


def _sha256_uri(value: object) -> str:
    text = _text(value)
    if not text.startswith("sha256:") or not _HEX.fullmatch(text[7:]):
        raise ValueError(f"not a sha256: digest: {text!r}")
    return text
