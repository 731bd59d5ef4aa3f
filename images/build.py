"""Build an image from its lock: the same digest, bit for bit, from the lock alone.

Layers are uncompressed tar, so that a layer's blob digest is its diff ID and no compressor has to be trusted. The
archive is an OCI image layout and a docker-archive at once. Nothing here needs root or a container engine.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from images import layers
from images.bytecode import ImageInterpreter
from images.definition import Definition
from images.errors import NotReproducedError
from images.inputs import InputStore
from images.lock import ImageLock, LockedInput
from images.tar import Entry, Kind, end_of_archive, header, padding, write_tar

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One built layer: its name, digest in hex, size in bytes, and the file that holds it."""

    name: str
    sha256: str
    size: int
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A built image.

    Attributes:
        layers: In order, the operating system first.
        config: The OCI image configuration; its sha256 is the image ID in Docker's classic store.
        manifest: The OCI manifest; its sha256 is the image ID in the containerd store.
        name: What the archive calls it, for people.
        epoch: Time of every archive member.
    """

    layers: tuple[Layer, ...]
    config: bytes
    manifest: bytes
    name: str
    epoch: int

    @property
    def image_id(self) -> str:
        """Digest of the configuration, as `sha256:` and hex."""
        return "sha256:" + hashlib.sha256(self.config).hexdigest()

    @property
    def manifest_digest(self) -> str:
        """Digest of the manifest, as `sha256:` and hex."""
        return "sha256:" + hashlib.sha256(self.manifest).hexdigest()

    def archive(self) -> Iterator[bytes]:
        """Yield the archive's bytes."""
        blobs: list[tuple[str, bytes | Path]] = [
            (hashlib.sha256(b).hexdigest(), b) for b in (self.config, self.manifest)
        ]
        blobs += [(layer.sha256, layer.path) for layer in self.layers]
        members: dict[str, bytes | Path] = {f"blobs/sha256/{digest}": blob for digest, blob in blobs}
        members["index.json"] = canonical_json(self._index())
        members["manifest.json"] = canonical_json(self._docker_manifest())
        members["oci-layout"] = canonical_json({"imageLayoutVersion": "1.0.0"})
        for folder in ("blobs", "blobs/sha256"):
            yield header(Entry(path=folder, kind=Kind.DIRECTORY), epoch=self.epoch)
        for path, content in sorted(members.items()):
            yield from self._member(path, content)
        yield end_of_archive()

    def _member(self, path: str, content: bytes | Path) -> Iterator[bytes]:
        entry = Entry(path=path, kind=Kind.FILE)
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        yield header(entry, epoch=self.epoch, size=size)
        if isinstance(content, bytes):
            yield content
        else:
            with content.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        yield padding(size)

    def _index(self) -> dict[str, Any]:
        media_type = "application/vnd.oci.image.manifest.v1+json"
        entry = {"mediaType": media_type, "digest": self.manifest_digest, "size": len(self.manifest)}
        return {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}

    def _docker_manifest(self) -> list[dict[str, Any]]:
        blob = "blobs/sha256/"
        tag = f"sealed-executor/{self.name}:{self.image_id[7:19]}"
        paths = [blob + layer.sha256 for layer in self.layers]
        return [{"Config": blob + self.image_id[7:], "RepoTags": [tag], "Layers": paths}]


class Builder:
    """Builds the layers of one definition, keeping each in a cache by what it is made of.

    Args:
        definition: What the image is made of.
        store: Where the locked inputs lie.
        cache: Directory for finished layers.
        checkout: Root of the project's sources, for the worker layer.
        say: Told what is being built, for a person who waits.
    """

    def __init__(
        self, definition: Definition, *, store: InputStore, cache: Path, checkout: Path, say: Callable[[str], None]
    ) -> None:
        self._definition = definition
        self._store = store
        self._cache = cache
        self._checkout = checkout
        self._say = say
        self._os: list[Entry] | None = None

    def build(self, inputs: tuple[LockedInput, ...]) -> Image:
        """Build the image from its locked inputs."""
        plan = layers.layer_plan(self._definition, inputs)
        debs = plan[0][1]
        built = [self._package_layer(name, items, debs) for name, items in plan]
        built.append(self._worker_layer(debs))
        config = self._config(built)
        return Image(
            layers=tuple(built),
            config=config,
            manifest=_manifest(config, built),
            name=self._definition.name,
            epoch=self._definition.epoch,
        )

    def _package_layer(self, name: str, items: tuple[LockedInput, ...], debs: tuple[LockedInput, ...]) -> Layer:
        digests = [i.sha256 for i in items]
        key = self._key(name, [*digests, *(d.sha256 for d in debs)])

        def entries() -> list[Entry]:
            plain = (
                self._os_entries(debs) if name == "os" else layers.wheel_entries(self._definition, items, self._store)
            )
            with ImageInterpreter(self._os_entries(debs), version=self._definition.python) as interpreter:
                return layers.with_bytecode(plain, interpreter)

        return self._cached(name, key, entries)

    def _worker_layer(self, debs: tuple[LockedInput, ...]) -> Layer:
        plain = layers.worker_entries(self._definition, self._checkout)
        sources = [hashlib.sha256(e.path.encode() + b"\0" + e.data).hexdigest() for e in plain]
        key = self._key("worker", [*sources, *(d.sha256 for d in debs)])

        def entries() -> list[Entry]:
            with ImageInterpreter(self._os_entries(debs), version=self._definition.python) as interpreter:
                return layers.with_bytecode(plain, interpreter)

        return self._cached("worker", key, entries)

    def _os_entries(self, debs: tuple[LockedInput, ...]) -> list[Entry]:
        if self._os is None:
            self._os = layers.os_entries(self._definition, debs, self._store)
        return self._os

    def _key(self, name: str, parts: list[str]) -> str:
        """Return the cache key of a layer: all that its bytes depend on, the builder's own code included."""
        code = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(Path(__file__).parent.glob("*.py"))]
        definition = self._definition
        rules = [definition.epoch, definition.drop, definition.keep, sorted(definition.executables), definition.python]
        return hashlib.sha256(canonical_json([name, parts, rules, code])).hexdigest()

    def _cached(self, name: str, key: str, entries: Callable[[], list[Entry]]) -> Layer:
        path, note = self._cache / f"{key}.tar", self._cache / f"{key}.json"
        if note.exists() and path.exists():
            known = json.loads(note.read_bytes())
            if path.stat().st_size == known["size"]:
                return Layer(name=name, sha256=known["sha256"], size=known["size"], path=path)
        self._say(f"building layer {name}")
        self._cache.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=self._cache)
        with os.fdopen(fd, "wb") as out:
            done = write_tar(out, entries(), epoch=self._definition.epoch)
        os.replace(temporary, path)
        note.write_bytes(canonical_json({"sha256": done.sha256, "size": done.size}))
        return Layer(name=name, sha256=done.sha256, size=done.size, path=path)

    def _config(self, built: list[Layer]) -> bytes:
        definition = self._definition
        created = datetime.fromtimestamp(definition.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return canonical_json(
            {
                "architecture": definition.architecture,
                "os": "linux",
                "created": created,
                "config": {
                    "User": definition.user,
                    "Env": list(definition.env),
                    "Entrypoint": list(definition.entrypoint),
                    "WorkingDir": "/",
                },
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.sha256}" for layer in built]},
                "history": [
                    {"created": created, "created_by": f"sealed-executor layer {layer.name}"} for layer in built
                ],
            }
        )


def check_expected(image: Image, lock: ImageLock) -> None:
    """Hold a built image against its lock.

    Raises:
        NotReproducedError: A digest differs; the message names the first layer that does.
    """
    expected = dict(lock.expect.layers)
    for layer in image.layers:
        if expected.get(layer.name) != f"sha256:{layer.sha256}":
            raise NotReproducedError(
                f"layer {layer.name!r} of image {lock.name!r} is not what the lock expects",
                hint=f"after a wanted change, write the lock anew: executor image lock {lock.name}",
            )
    if (image.image_id, image.manifest_digest) != (lock.expect.image_id, lock.expect.manifest):
        raise NotReproducedError(
            f"configuration of image {lock.name!r} is not what the lock expects",
            hint=f"after a wanted change, write the lock anew: executor image lock {lock.name}",
        )


def canonical_json(value: object) -> bytes:
    """Return JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _manifest(config: bytes, built: list[Layer]) -> bytes:
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": "sha256:" + hashlib.sha256(config).hexdigest(),
                "size": len(config),
            },
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": f"sha256:{y.sha256}", "size": y.size}
                for y in built
            ],
        }
    )
