"""An image in OCI's words: configuration, manifest, and the one archive that is an OCI layout and a docker-archive.

Layers are uncompressed tar (`application/vnd.oci.image.layer.v1.tar`, OCI image-spec 1.1), so that a layer's blob
digest is its diff ID and no compressor has to be trusted: gzip -6, pigz, zlib and two zstd versions gave five digests
for one content (measured 2026-11).
"""

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

from images.encoding import canonical_json, sha256_hex
from images.recipe import Recipe
from images.tar import Entry, Kind, Stream, end_of_archive, member

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer: its name, sha256 in hex, and size in bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image without its layers' bytes.

    Attributes:
        name: What its archive calls it, for people.
        layers: In order, the operating system first.
        config: The OCI image configuration; its sha256 is the image ID in Docker's classic store.
        manifest: The OCI manifest; its sha256 is the image ID in the containerd store.
        epoch: Time of every archive member.
    """

    name: str
    layers: tuple[Layer, ...]
    config: bytes
    manifest: bytes
    epoch: int

    @property
    def image_id(self) -> str:
        """Digest of the configuration, as `sha256:` and hex."""
        return "sha256:" + sha256_hex(self.config)

    @property
    def manifest_digest(self) -> str:
        """Digest of the manifest, as `sha256:` and hex."""
        return "sha256:" + sha256_hex(self.manifest)

    @property
    def tag(self) -> str:
        """What a person may call it. Nothing is ever looked up by it."""
        return self.image_id[7:19]

    def archive(self, open_layer: Callable[[Layer], BinaryIO], *, without: Set[str] = frozenset()) -> Iterator[bytes]:
        """Yield the archive's bytes.

        Args:
            open_layer: Gives the bytes of a layer, checked.
            without: sha256 of layers to leave out, for an engine that has them. Such an archive is not complete.
        """
        blobs = [(self.image_id[7:], self.config), (self.manifest_digest[7:], self.manifest)]
        entries = [_file(f"blobs/sha256/{digest}", data) for digest, data in blobs]
        entries += [_layer_file(y, open_layer) for y in self.layers if y.sha256 not in without]
        entries += [Entry(path=path, kind=Kind.DIRECTORY) for path in ("blobs", "blobs/sha256")]
        entries += [
            _file("index.json", canonical_json(self._index())),
            _file("manifest.json", canonical_json(self._docker_manifest())),
            _file("oci-layout", canonical_json({"imageLayoutVersion": "1.0.0"})),
        ]
        for entry in sorted(entries, key=lambda e: e.path):
            yield from member(entry, epoch=self.epoch)
        yield end_of_archive()

    def _index(self) -> dict[str, Any]:
        entry = {"mediaType": MANIFEST_TYPE, "digest": self.manifest_digest, "size": len(self.manifest)}
        return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}

    def _docker_manifest(self) -> list[dict[str, Any]]:
        blob = "blobs/sha256/"
        paths = [blob + layer.sha256 for layer in self.layers]
        tag = f"sealed-executor/{self.name}:{self.tag}"
        return [{"Config": blob + self.image_id[7:], "RepoTags": [tag], "Layers": paths}]


def make_image(name: str, recipe: Recipe, layers: tuple[Layer, ...]) -> Image:
    """Return the image that a recipe and its layers make. Pure: a lock's digests are checked with it."""
    config = _config(recipe, layers)
    return Image(name=name, layers=layers, config=config, manifest=_manifest(config, layers), epoch=recipe.epoch)


def timestamp(epoch: int) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _config(recipe: Recipe, layers: tuple[Layer, ...]) -> bytes:
    created = timestamp(recipe.epoch)
    return canonical_json(
        {
            "architecture": recipe.architecture,
            "os": "linux",
            "created": created,
            "config": {
                "User": recipe.user,
                "Env": list(recipe.env),
                "Entrypoint": list(recipe.entrypoint),
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.sha256}" for layer in layers]},
            "history": [{"created": created, "created_by": f"sealed-executor layer {layer.name}"} for layer in layers],
        }
    )


def _manifest(config: bytes, layers: tuple[Layer, ...]) -> bytes:
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": "sha256:" + sha256_hex(config), "size": len(config)},
            "layers": [{"mediaType": LAYER_TYPE, "digest": f"sha256:{y.sha256}", "size": y.size} for y in layers],
        }
    )


def _file(path: str, data: bytes) -> Entry:
    return Entry(path=path, kind=Kind.FILE, data=data)


def _layer_file(layer: Layer, open_layer: Callable[[Layer], BinaryIO]) -> Entry:
    def chunks() -> Iterator[bytes]:
        with open_layer(layer) as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    stream = Stream(size=layer.size, digest=layer.sha256, open=chunks)
    return Entry(path=f"blobs/sha256/{layer.sha256}", kind=Kind.FILE, stream=stream)
