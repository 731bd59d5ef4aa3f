"""The image lock: what goes into an image, the rules that make layers of it, and the digests that must come out.

The lock names inputs by kind, name, version, size and sha256, never by a mirror, and holds the whole recipe: an image
is rebuilt from its lock alone. This reader is what the executor uses to pin an image, so it imports the standard
library alone, and it recomputes image ID and manifest digest from recipe and layers: a lock whose parts do not belong
together is refused.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from images.encoding import sha256_hex
from images.errors import LockError
from images.oci import Image, Layer, make_image
from images.recipe import Recipe, parse_recipe

SCHEMA = "executor.image-lock/v1"
LOCK_BYTES_MAX = 40_000
SUFFIX = ".lock.json"
OS = "os"
WHEELS = "wheels"
WORKER = "worker"
ROOT = "root"  # why a package is there that was asked for
_HEX = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
# They reach the command lines of apt and pip, where a leading dash would be an option.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{0,99}")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+:~!_-]{0,99}")
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~!_%-]{0,254}")
_PATH = re.compile(r"(images/worker|tools)(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")
_FIELDS = {"schema", "name", "roots", "recipe", "indexes", "expect", "inputs"}
_INPUT_FIELDS = {
    "deb": ("name", "version", "arch", "filename", "size", "sha256", "source", "suite", "why"),
    "wheel": ("name", "version", "filename", "size", "sha256", "why"),
    "source": ("name", "size", "sha256"),
}
_INDEX_FIELDS = ("suite", "date", "release_sha256", "packages_sha256", "signers")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedInput:
    """One pinned input.

    Attributes:
        kind: `deb`, `wheel`, or `source`: a file of this project that goes into the worker layer.
        name: Package name; of a source its path in the checkout.
        size: In bytes.
        sha256: Hex digest of the file.
        version: Exact version; empty for sources, which have none.
        filename: Name of the file, without any location; empty for sources.
        arch: Debian architecture of a deb.
        source: Source package of a deb.
        suite: Debian suite that a deb came from; security updates are told by it.
        why: `root`, or the packages that require it; empty for sources.
    """

    kind: str
    name: str
    size: int
    sha256: str
    version: str = ""
    filename: str = ""
    arch: str = ""
    source: str = ""
    suite: str = ""
    why: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.name, self.version) if part)

    def to_wire(self) -> dict[str, Any]:
        """Return the form that the lock holds."""
        wire = {"kind": self.kind} | {name: getattr(self, name) for name in _INPUT_FIELDS[self.kind]}
        return wire | ({"why": list(self.why)} if "why" in wire else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIndex:
    """A Debian package index that digests of debs were taken from, and the signed release file that names it.

    Attributes:
        suite: Codename, such as `bookworm-security`.
        date: Of the release file, as it says.
        release_sha256: Digest of the signed text of `InRelease`.
        packages_sha256: Digest of `main/binary-ARCH/Packages`, named by it.
        signers: Fingerprints of the primary keys that signed it.
    """

    suite: str
    date: str
    release_sha256: str
    packages_sha256: str
    signers: tuple[str, ...]

    def to_wire(self) -> dict[str, Any]:
        """Return the form that the lock holds."""
        return {name: getattr(self, name) for name in _INDEX_FIELDS} | {"signers": list(self.signers)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """What was asked for; all else came of it."""

    debs: tuple[str, ...]
    wheels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a build must give: `sha256:` digests, and the layers in order."""

    image_id: str
    manifest: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLock:
    """A parsed lock.

    Attributes:
        name: Image name, the word that a job file uses.
        roots: The packages that were asked for.
        recipe: The rules that make layers of the inputs.
        indexes: The signed indexes that the debs' digests came from.
        inputs: All inputs: debs, wheels, sources, each sorted by name.
        expect: The digests that must come out.
        raw: The lock file's bytes.
    """

    name: str
    roots: Roots
    recipe: Recipe
    indexes: tuple[SignedIndex, ...]
    inputs: tuple[LockedInput, ...]
    expect: Expected
    raw: bytes

    @property
    def digest(self) -> str:
        """sha256 of the lock file's bytes, in hex."""
        return sha256_hex(self.raw)

    @property
    def image(self) -> Image:
        """The image that must come out, without its layers' bytes."""
        return make_image(self.name, self.recipe, self.expect.layers)

    def of_kind(self, kind: str) -> tuple[LockedInput, ...]:
        """Return the inputs of one kind."""
        return tuple(i for i in self.inputs if i.kind == kind)


def layer_plan(recipe: Recipe, inputs: Sequence[LockedInput]) -> list[tuple[str, tuple[LockedInput, ...]]]:
    """Return the layers in order: their names and the inputs of each.

    Raises:
        LockError: Two layers would have one name.
    """
    debs, wheels, sources = (tuple(i for i in inputs if i.kind == k) for k in ("deb", "wheel", "source"))
    own: list[LockedInput] = []
    for pattern in recipe.own_layer:
        own += [w for w in wheels if fnmatchcase(w.name, pattern) and w not in own]
    rest = tuple(w for w in wheels if w not in own)
    plan = [(OS, debs), *((w.name, (w,)) for w in own), *([(WHEELS, rest)] if rest else []), (WORKER, sources)]
    if len(dict(plan)) != len(plan):
        raise LockError("a wheel with a layer of its own is called like one of ours")
    return plan


def lock_path(name: str) -> Path:
    """Return where the lock of an image lies in this distribution.

    Raises:
        LockError: The name is not one that an image can have.
    """
    if not _NAME.fullmatch(name):
        raise LockError(f"not an image name: {name!r}", hint="image names look like cpu or cuda")
    return Path(__file__).parent / f"{name}{SUFFIX}"


def known_images() -> tuple[str, ...]:
    """Return the names of all images that have a lock."""
    return tuple(sorted(p.name.removesuffix(SUFFIX) for p in Path(__file__).parent.glob(f"*{SUFFIX}")))


def load_lock(name: str) -> ImageLock:
    """Read and check the lock of an image that this distribution carries.

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


def read_lock(name_or_path: str) -> ImageLock:
    """Read a lock by image name, or from a file: whatever has a slash or ends with `.json` is a path.

    Raises:
        LockError: There is no such lock, or it is malformed.
    """
    if "/" not in name_or_path and not name_or_path.endswith(".json"):
        return load_lock(name_or_path)
    try:
        with Path(name_or_path).open("rb") as file:
            return parse_lock(file.read(LOCK_BYTES_MAX + 1))
    except OSError as err:
        raise LockError(f"cannot read image lock: {name_or_path}: {err.strerror}") from err


def parse_lock(data: bytes) -> ImageLock:
    """Parse a lock file.

    Raises:
        LockError: Too large, not JSON, another schema, a missing or unknown field, a malformed digest, or digests that
            its own recipe and layers do not give.
    """
    if len(data) > LOCK_BYTES_MAX:
        raise LockError(f"image lock is larger than {LOCK_BYTES_MAX} bytes")
    try:
        lock = _parse(json.loads(data, object_pairs_hook=_object), raw=data)
    except (KeyError, TypeError, ValueError, RecursionError) as err:
        raise LockError(f"image lock is malformed: {err}") from err
    _check_whole(lock)
    return lock


def _parse(document: Any, *, raw: bytes) -> ImageLock:
    if document["schema"] != SCHEMA:
        raise LockError(f"image lock has schema {document['schema']!r}, expected {SCHEMA!r}")
    _check_fields(document, _FIELDS, "lock")
    roots, expect = document["roots"], document["expect"]
    _check_fields(roots, {"debs", "wheels"}, "roots")
    _check_fields(expect, {"image_id", "manifest", "layers"}, "expect")
    name = _text(document["name"])
    if not _NAME.fullmatch(name):
        raise ValueError(f"not an image name: {name!r}")
    return ImageLock(
        name=name,
        roots=Roots(debs=_texts(roots["debs"]), wheels=_texts(roots["wheels"], least=0)),
        recipe=parse_recipe(document["recipe"]),
        indexes=tuple(_parse_index(i) for i in document["indexes"]),
        inputs=tuple(_parse_input(i) for i in document["inputs"]),
        expect=Expected(
            image_id=_sha256_uri(expect["image_id"]),
            manifest=_sha256_uri(expect["manifest"]),
            layers=tuple(
                Layer(name=_text(n), sha256=_sha256_uri(d)[7:], size=_size(s)) for n, d, s in expect["layers"]
            ),
        ),
        raw=raw,
    )


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """What a person reads in a lock must be what a program reads: no key stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _check_whole(lock: ImageLock) -> None:
    """Refuse a lock whose parts do not belong together: one edited by hand, or merged wrongly."""
    if not lock.inputs:
        raise LockError("image lock names no inputs")
    if lock.of_kind("deb") and not lock.indexes:
        raise LockError("image lock names no index that its Debian packages' digests came from")
    if [y.name for y in lock.expect.layers] != [name for name, _ in layer_plan(lock.recipe, lock.inputs)]:
        raise LockError("image lock expects other layers than its recipe makes of its inputs")
    keys = [(i.kind, i.name) for i in lock.inputs]
    if len(set(keys)) != len(keys):
        raise LockError("image lock names an input twice")
    image = lock.image
    if (image.image_id, image.manifest_digest) != (lock.expect.image_id, lock.expect.manifest):
        raise LockError(
            f"lock of image {lock.name!r} expects digests that its own recipe and layers do not give",
            hint=f"check the lock out again, or make it anew: executor image lock {lock.name} --upgrade",
        )


def _parse_index(item: Mapping[str, Any]) -> SignedIndex:
    _check_fields(item, set(_INDEX_FIELDS), "index")
    return SignedIndex(
        suite=_text(item["suite"]),
        date=_text(item["date"]),
        release_sha256=_hex(item["release_sha256"]),
        packages_sha256=_hex(item["packages_sha256"]),
        signers=_texts(item["signers"]),
    )


def _parse_input(item: Mapping[str, Any]) -> LockedInput:
    if item["kind"] not in _INPUT_FIELDS:
        raise ValueError(f"unknown kind of input: {item['kind']!r}")
    fields = _INPUT_FIELDS[item["kind"]]
    _check_fields(item, {"kind", *fields}, f"input {item.get('name')!r}")
    texts = {f: _text(item[f]) for f in fields if f not in ("size", "sha256", "why")}
    forms = {"name": _PATH if item["kind"] == "source" else _PACKAGE, "version": _VERSION, "filename": _FILENAME}
    for field, form in forms.items():
        if field in texts and not form.fullmatch(texts[field]):
            raise ValueError(f"not a {field} of a {item['kind']}: {texts[field]!r}")
    why = _texts(item["why"]) if "why" in fields else ()
    return LockedInput(kind=item["kind"], size=_size(item["size"]), sha256=_hex(item["sha256"]), why=why, **texts)


def _check_fields(item: Mapping[str, Any], wanted: set[str], what: str) -> None:
    if set(item) != wanted:
        raise ValueError(f"{what} has wrong fields: {sorted(set(item) ^ wanted)}")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a non-empty string, got {value!r}")
    return value


def _texts(value: object, *, least: int = 1) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < least:
        raise ValueError(f"expected a list of {least} or more, got {value!r}")
    return tuple(_text(v) for v in value)


def _size(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"not a size: {value!r}")
    return value


def _hex(value: object) -> str:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise ValueError(f"not a sha256 digest: {value!r}")
    return value


def _sha256_uri(value: object) -> str:
    text = _text(value)
    if not text.startswith("sha256:"):
        raise ValueError(f"not a sha256: digest: {text!r}")
    _hex(text[7:])
    return text
