"""Publishing: everything by the digests of the lock, and enough of it to rebuild from."""

import hashlib
import json
from pathlib import Path

import pytest

from images.build import blob_of_layer, build_layers
from images.errors import InputError
from images.inputs import blob_of
from images.publish import INPUTS_TYPE, Document, inputs_manifest, pull_blobs, push_image
from images.registry import Registry, parse_repository
from images.store import BlobStore
from tests.unit.images.packages import SmallImage, silence
from tests.unit.images.registry_server import FakeRegistry, serving


@pytest.fixture
def small(tmp_path: Path) -> SmallImage:
    found = SmallImage(tmp_path)
    build_layers(found.lock(), found.builder(), found.store, say=silence)
    return found


def push(small: SmallImage, fake: FakeRegistry) -> Registry:
    registry = Registry(parse_repository(f"{fake.host}/a/b"))
    document = Document(media_type="application/spdx+json", data=b"{}\n")
    push_image(registry, small.lock(), small.store, [document], say=silence)
    return registry


def test_an_image_is_published_under_its_own_digest_with_its_inputs_beside_it(small: SmallImage) -> None:
    lock = small.lock()
    with serving(FakeRegistry()) as fake:
        registry = push(small, fake)
        assert registry.get_manifest(lock.expect.manifest) == lock.image.manifest
        assert registry.get_manifest(lock.image.tag) == lock.image.manifest
        wanted = {i.sha256 for i in lock.inputs} | {y.sha256 for y in lock.expect.layers}
        assert {f"sha256:{d}" for d in wanted} <= set(fake.blobs)
        artifacts = [json.loads(fake.manifests[d["digest"]]) for d in registry.referrers(lock.expect.manifest)]
        assert {a["artifactType"] for a in artifacts} == {INPUTS_TYPE, "application/spdx+json"}
        for artifact in artifacts:
            assert {y["digest"] for y in (*artifact["layers"], artifact["config"])} <= set(fake.blobs)


def test_the_inputs_artifact_names_every_input_of_the_lock(small: SmallImage) -> None:
    lock = small.lock()
    manifest = json.loads(inputs_manifest(lock))
    assert [(y["digest"], y["size"]) for y in manifest["layers"]] == [
        (f"sha256:{i.sha256}", i.size) for i in lock.inputs
    ]
    assert manifest["subject"]["digest"] == lock.expect.manifest


def test_an_image_comes_back_from_its_inputs_or_as_layers(small: SmallImage, tmp_path: Path) -> None:
    lock = small.lock()
    with serving(FakeRegistry()) as fake:
        registry = push(small, fake)
        inputs, layers = BlobStore(tmp_path / "i"), BlobStore(tmp_path / "l")
        assert pull_blobs(registry, map(blob_of, lock.inputs), inputs, say=silence) == len(lock.inputs)
        assert pull_blobs(registry, map(blob_of, lock.inputs), inputs, say=silence) == 0
        assert pull_blobs(registry, map(blob_of_layer, lock.expect.layers), layers, say=silence) == 4
    small.store = inputs
    assert build_layers(lock, small.builder(), inputs, say=silence) == 4
    digests = [hashlib.sha256(layers.path(y.sha256).read_bytes()).hexdigest() for y in lock.expect.layers]
    assert digests == [y.sha256 for y in lock.expect.layers]


def test_a_damaged_blob_is_not_published(small: SmallImage) -> None:
    small.store.path(small.inputs[0].sha256).write_bytes(b"x" * small.inputs[0].size)
    with serving(FakeRegistry()) as fake, pytest.raises(InputError, match=str(small.inputs[0])):
        push(small, fake)
