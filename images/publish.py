"""What goes to a registry and comes from it: the image, and beside it what it is made of and what is said of it.

Everything is named by the digests of the lock. A lock's sha256 of a package is the digest of its blob, so that an image
is rebuilt from a registry when mirrors have forgotten its packages. `docker push` is not used: it makes another
manifest (measured 2026-11 on 20.10).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from images.build import blob_of_layer
from images.encoding import canonical_json, sha256_hex
from images.inputs import blob_of
from images.lock import ImageLock
from images.oci import MANIFEST_TYPE
from images.registry import Registry
from images.store import Blob, BlobStore

INPUTS_TYPE = "application/vnd.sealed-executor.image-inputs.v1"
LOCK_TYPE = "application/vnd.sealed-executor.image-lock.v1+json"
_BLOB_TYPE = "application/octet-stream"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_EMPTY = b"{}"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Something said of an image: its media type and its bytes."""

    media_type: str
    data: bytes


def push_image(
    registry: Registry, lock: ImageLock, store: BlobStore, documents: Sequence[Document], *, say: Say
) -> None:
    """Publish an image whose layers and inputs are in the store, with referrers for its inputs and for each document.

    Raises:
        InputError: A blob is missing or damaged, or the registry changed a manifest.
        SourceError: The registry cannot be reached or refuses.
    """
    image = lock.image
    for layer in lock.expect.layers:
        say(f"pushing layer {layer.name}")
        _put(registry, store, blob_of_layer(layer))
    _put_bytes(registry, image.config)
    registry.put_manifest(image.manifest, tag=image.tag)
    _put_bytes(registry, _EMPTY)
    say(f"pushing {len(lock.inputs)} inputs")
    for item in lock.inputs:
        _put(registry, store, blob_of(item))
    registry.put_manifest(inputs_manifest(lock))
    for document in documents:
        _put_bytes(registry, document.data)
        registry.put_manifest(_document_manifest(lock, document))


def pull_blobs(registry: Registry, blobs: Iterable[Blob], store: BlobStore, *, say: Say) -> int:
    """Fetch what the store lacks, by digest; return how many blobs were fetched.

    Raises:
        InputError: The registry sent other bytes than were asked for. They are not kept.
        SourceError: The registry cannot be reached, or does not have one.
    """
    fetched = 0
    for blob in blobs:
        if not store.has(blob):
            say(f"pulling {blob.name}")
            store.put(blob, registry.get_blob(blob.sha256))
            fetched += 1
    return fetched


def inputs_manifest(lock: ImageLock) -> bytes:
    """Return the manifest of the artifact that holds an image's inputs, with the image as its subject."""
    layers = [
        {
            "mediaType": _BLOB_TYPE,
            "digest": f"sha256:{i.sha256}",
            "size": i.size,
            "annotations": {"org.opencontainers.image.title": i.filename or i.name},
        }
        for i in lock.inputs
    ]
    return _manifest(lock, INPUTS_TYPE, layers)


def _document_manifest(lock: ImageLock, document: Document) -> bytes:
    digest = f"sha256:{sha256_hex(document.data)}"
    return _manifest(
        lock, document.media_type, [{"mediaType": document.media_type, "digest": digest, "size": len(document.data)}]
    )


def _manifest(lock: ImageLock, artifact_type: str, layers: list[dict[str, Any]]) -> bytes:
    """An artifact without a configuration of its own (image-spec 1.1, guidelines for artifact usage)."""
    image = lock.image
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": artifact_type,
            "config": {"mediaType": _EMPTY_TYPE, "digest": f"sha256:{sha256_hex(_EMPTY)}", "size": len(_EMPTY)},
            "layers": layers,
            "subject": {"mediaType": MANIFEST_TYPE, "digest": image.manifest_digest, "size": len(image.manifest)},
        }
    )


def _put(registry: Registry, store: BlobStore, blob: Blob) -> None:
    registry.put_blob(blob.sha256, lambda: store.open(blob))


def _put_bytes(registry: Registry, data: bytes) -> None:
    registry.put_blob(sha256_hex(data), lambda: BytesIO(data))
