"""The builder: the same bytes, nothing unchecked, nothing kept that is not what the lock expects."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from images.build import blob_of_layer, build_layers
from images.errors import InputError, NotReproducedError, UnsafeEntryError
from images.inputs import blob_of
from images.lock import ImageLock
from images.verify import reproduce
from tests.unit.images.packages import PACKAGES, SmallImage, silence, wheel


@pytest.fixture
def small(tmp_path: Path) -> SmallImage:
    return SmallImage(tmp_path)


def archive_of(small: SmallImage, lock: ImageLock) -> bytes:
    build_layers(lock, small.builder(), small.store, say=silence)
    return b"".join(lock.image.archive(lambda layer: small.store.open(blob_of_layer(layer))))


def test_two_builds_in_two_folders_under_two_umasks_give_the_same_archive(tmp_path: Path) -> None:
    archives = set()
    for name, mask in (("one", 0o022), ("two", 0o077)):
        before = os.umask(mask)
        try:
            small = SmallImage(tmp_path / name)
            archives.add(archive_of(small, small.lock()))
        finally:
            os.umask(before)
    assert len(archives) == 1


def test_the_archive_is_an_oci_layout_and_a_docker_archive_at_once(small: SmallImage) -> None:
    lock = small.lock()
    with tarfile.open(fileobj=io.BytesIO(archive_of(small, lock))) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]
    for path, data in files.items():
        if path.startswith("blobs/sha256/"):
            assert hashlib.sha256(data).hexdigest() == path.rpartition("/")[2]
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["digest"] == lock.expect.manifest
    manifest = json.loads(files["blobs/sha256/" + entry["digest"][7:]])
    (docker,) = json.loads(files["manifest.json"])
    assert docker["Config"] == "blobs/sha256/" + manifest["config"]["digest"][7:]
    assert docker["Layers"] == ["blobs/sha256/" + y["digest"][7:] for y in manifest["layers"]]
    config = json.loads(files[docker["Config"]])
    assert config["rootfs"]["diff_ids"] == [y["digest"] for y in manifest["layers"]]


def test_an_archive_without_layers_that_the_engine_has_keeps_their_names(small: SmallImage) -> None:
    lock = small.lock()
    build_layers(lock, small.builder(), small.store, say=silence)
    without = frozenset(y.sha256 for y in lock.expect.layers[:-1])
    data = b"".join(lock.image.archive(lambda y: small.store.open(blob_of_layer(y)), without=without))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
        (docker,) = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
    assert [y in names for y in docker["Layers"]] == [False, False, False, True]


@pytest.mark.parametrize("number", range(len(PACKAGES)))
def test_one_flipped_byte_in_any_cached_input_is_refused_by_name_and_nothing_is_kept(
    small: SmallImage, number: int
) -> None:
    lock, item = small.lock(), small.inputs[number]
    path = small.store.path(item.sha256)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=str(item)):
        build_layers(lock, small.builder(), small.store, say=silence)
    with pytest.raises(InputError, match=str(item)):
        reproduce(lock, small.builder())
    bad = {y.name for y in lock.expect.layers if item in small.builder().layers[y.name]}
    assert not [y.name for y in lock.expect.layers if y.name in bad and small.store.has(blob_of_layer(y))]


def test_a_layer_that_comes_out_otherwise_is_refused_by_name_and_not_kept(small: SmallImage) -> None:
    lock = small.lock()
    layers = [replace(y, sha256="0" * 64) if y.name == "wheels" else y for y in lock.expect.layers]
    wrong = small.lock_of(tuple(layers))
    before = {p for p in small.store.path("").parent.rglob("*") if p.is_file()}
    with pytest.raises(NotReproducedError, match="layer 'wheels' of image 'cpu' came out as"):
        build_layers(wrong, small.builder(), small.store, say=silence)
    after = {p for p in small.store.path("").parent.rglob("*") if p.is_file()}
    assert {p.name for p in after - before} == {y.sha256 for y in lock.expect.layers if y.name in ("os", "torch")}


def test_layers_that_are_there_are_not_built_again(small: SmallImage) -> None:
    lock = small.lock()
    assert build_layers(lock, small.builder(), small.store, say=silence) == 4
    assert build_layers(lock, small.builder(), small.store, say=silence) == 0
    small.store.path(lock.expect.layers[-1].sha256).unlink()
    assert build_layers(lock, small.builder(), small.store, say=silence) == 1


def test_a_flipped_byte_in_a_cached_layer_is_built_again_and_never_reaches_an_archive(small: SmallImage) -> None:
    lock = small.lock()
    good = archive_of(small, lock)
    path = small.store.path(lock.expect.layers[1].sha256)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="layer torch"):
        list(lock.image.archive(lambda layer: small.store.open(blob_of_layer(layer))))
    assert archive_of(small, lock) == good


def test_a_layer_that_covers_a_file_of_a_lower_one_is_refused(tmp_path: Path) -> None:
    other = {**PACKAGES, ("wheel", "other"): wheel({"torch/lib.so": b"other"})}
    with pytest.raises(UnsafeEntryError, match="layers 'torch' and 'wheels' bring other content"):
        SmallImage(tmp_path, other).lock()


@pytest.mark.parametrize(
    "files", [{"torch": b"a file where a lower layer has a folder"}, {"torch/lib.so/x": b"and the other way round"}]
)
def test_a_file_and_a_folder_of_one_name_in_two_layers_are_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    other = {**PACKAGES, ("wheel", "other"): wheel(files, package="other")}
    with pytest.raises(UnsafeEntryError, match="bring other content for one path"):
        SmallImage(tmp_path, other).lock()


def test_a_wheel_cannot_take_the_place_of_the_worker(tmp_path: Path) -> None:
    other = {**PACKAGES, ("wheel", "evil"): wheel({"worker/job.txt": b"evil"})}
    with pytest.raises(UnsafeEntryError, match="in the place of the worker"):
        SmallImage(tmp_path, other).lock()


def test_verifying_gives_what_the_lock_expects_and_writes_nothing(small: SmallImage) -> None:
    lock = small.lock()
    before = sorted(p for p in small.folder.rglob("*"))
    result = reproduce(lock, small.builder())
    assert (result.differences, result.layers) == ((), lock.expect.layers)
    assert sorted(small.folder.rglob("*")) == before


def test_verifying_names_every_difference(small: SmallImage) -> None:
    lock = small.lock()
    layers = [replace(y, sha256="0" * 64) if y.name in ("os", "worker") else y for y in lock.expect.layers]
    result = reproduce(small.lock_of(tuple(layers)), small.builder())
    assert [d.what for d in result.differences] == ["layer os", "layer worker", "config", "manifest"]
    assert result.differences[0].expected == "sha256:" + "0" * 64
    assert result.differences[0].actual == f"sha256:{lock.expect.layers[0].sha256}"


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, epoch=r.epoch + 1),
        lambda r: replace(r, drop=(*r.drop, "etc/os")),
        lambda r: replace(r, executables=()),
        lambda r: replace(r, texts=()),
        lambda r: replace(r, user="0:0"),
        lambda r: replace(r, env=("LD_PRELOAD=/x",)),
        lambda r: replace(r, entrypoint=("/bin/sh",)),
        lambda r: replace(r, directories=()),
        lambda r: replace(r, own_layer=()),
    ],
)
def test_every_rule_of_the_recipe_is_bound_by_the_image_id(tmp_path: Path, change: Callable[[object], object]) -> None:
    one, two = SmallImage(tmp_path), SmallImage(tmp_path)
    two.recipe = change(two.recipe)  # type: ignore[assignment]
    assert one.lock().expect.image_id != two.lock().expect.image_id


def test_inputs_are_named_by_the_digest_that_a_registry_would_use(small: SmallImage) -> None:
    assert all(small.store.has(blob_of(i)) for i in small.inputs)
