"""The lock: strict, small, whole, and without the name of any place."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from images.definition import load_definition
from images.errors import LockError
from images.inputs import CHECKOUT, read_sources
from images.lock import LOCK_BYTES_MAX, known_images, load_lock, lock_path, parse_lock, read_lock
from images.recipe import parse_recipe
from images.resolve import lock_bytes
from images.tar import Entry, Kind, header
from tests.unit.images.packages import SmallImage

RAW = lock_path("cpu").read_bytes()
IMAGES = known_images()


def changed(change: Any) -> bytes:
    document = json.loads(RAW)
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize("name", IMAGES)
def test_a_lock_pins_everything_by_digest_and_names_no_place(name: str) -> None:
    lock = load_lock(name)
    assert {i.kind for i in lock.inputs} == {"deb", "source"} | ({"wheel"} if lock.roots.wheels else set())
    assert all(len(i.sha256) == 64 and i.size > 0 for i in lock.inputs)
    assert b"://" not in lock.raw
    assert len(lock.raw) <= LOCK_BYTES_MAX


@pytest.mark.parametrize("name", IMAGES)
def test_a_lock_says_of_every_package_where_it_came_from_and_why_it_is_there(name: str) -> None:
    lock = load_lock(name)
    names = {i.name for i in lock.inputs}
    suites = {i.suite for i in lock.indexes}
    for item in lock.inputs:
        if item.kind == "source":
            continue
        assert item.why, item.name
        assert set(item.why) <= names | {"root"}, item.name
        if item.kind == "deb":
            assert item.source, item.name
            assert item.suite in suites
    assert all(i.signers and len(i.release_sha256) == 64 for i in lock.indexes)


@pytest.mark.parametrize("name", IMAGES)
def test_a_lock_was_made_from_its_definition(name: str) -> None:
    lock, definition = load_lock(name), load_definition(name)
    assert (lock.roots, lock.recipe) == (definition.roots, definition.recipe)
    assert {s for i in lock.indexes for s in i.signers} <= set(definition.signers)


@pytest.mark.parametrize("name", IMAGES)
def test_a_lock_pins_the_sources_of_this_checkout(name: str) -> None:
    """If this fails after a change of the worker or the tools: executor image lock NAME, for each image."""
    import hashlib

    here = {path: hashlib.sha256(data).hexdigest() for path, data in read_sources(CHECKOUT)}
    assert {i.name: i.sha256 for i in load_lock(name).of_kind("source")} == here


def test_the_two_images_run_the_same_versions() -> None:
    cpu, cuda = ({i.name: i.version for i in load_lock(n).inputs if i.name != "torch"} for n in ("cpu", "cuda"))
    assert {n for n in cpu if n in cuda and cpu[n] != cuda[n]} == set()
    assert {(i.name, i.version) for n in ("cpu", "cuda") for i in load_lock(n).inputs if i.name == "torch"} == {
        ("torch", "2.13.0+cpu"),
        ("torch", "2.13.0"),
    }


def test_no_device_comes_into_a_container_by_what_an_image_says() -> None:
    assert "NVIDIA_VISIBLE_DEVICES=void" in load_lock("cuda").recipe.env


def test_a_lock_survives_a_round_trip() -> None:
    lock, definition = load_lock("cpu"), load_definition("cpu")
    assert lock_bytes(definition, (lock.inputs, lock.indexes), lock.image) == RAW


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[" * 20_000,
        changed(lambda d: d.update(schema="executor.image-lock/v2")),
        changed(lambda d: d.pop("inputs")),
        changed(lambda d: d.update(inputs=[])),
        changed(lambda d: d.update(surprise=1)),
        changed(lambda d: d["recipe"].update(surprise=1)),
        changed(lambda d: d["recipe"].update(epoch="0")),
        changed(lambda d: d["recipe"].update(drop="*")),
        changed(lambda d: d["recipe"].pop("keep")),
        changed(lambda d: d["recipe"].update(epoch=-1)),
        changed(lambda d: d["recipe"].update(epoch=1 << 33)),
        changed(lambda d: d["recipe"].update(epoch=10**20)),
        changed(lambda d: d["recipe"].update(epoch=True)),
        changed(lambda d: d["recipe"].update(architecture="i386")),
        changed(lambda d: d["recipe"].update(python="--help")),
        changed(lambda d: d["recipe"].update(glibc="2")),
        changed(lambda d: d["recipe"].update(user="root")),
        changed(lambda d: d["recipe"].update(env=["A=\udcff"])),
        changed(lambda d: d["recipe"].update(texts={"../etc/passwd": ""})),
        changed(lambda d: d["recipe"].update(texts={"/etc/passwd": ""})),
        changed(lambda d: d["recipe"].update(texts={"ab": 5})),
        changed(lambda d: d["recipe"].update(texts={"ab": None})),
        changed(lambda d: d["recipe"].update(texts={"ab": "\u00e9"})),
        changed(lambda d: d["recipe"].update(texts=["ab"])),
        changed(lambda d: d["recipe"].update(env={"ab": "c"})),
        changed(lambda d: d["inputs"][0].update(name="-x")),
        changed(lambda d: d["recipe"].update(directories=["a//b"])),
        changed(lambda d: d["recipe"]["own_layer"].append("numpy")),
        changed(lambda d: d["expect"]["layers"].clear()),
        changed(lambda d: d.update(indexes=[])),
        RAW.replace(b'"name": "cpu"', b'"name": "cuda",\n "name": "cpu"', 1),
        changed(lambda d: d["roots"].update(debs=[])),
        changed(lambda d: d["inputs"][0].update(sha256="0" * 63)),
        changed(lambda d: d["inputs"][0].update(sha256="G" * 64)),
        changed(lambda d: d["inputs"][0].update(kind="rpm")),
        changed(lambda d: d["inputs"][0].update(filename="../x")),
        changed(lambda d: d["inputs"][0].update(filename="-x")),
        changed(lambda d: d["inputs"][0].update(name="-oDir=/x")),
        changed(lambda d: d["inputs"][0].update(version="--help")),
        changed(lambda d: d["inputs"][0].update(version="")),
        changed(lambda d: d["inputs"][0].update(size=-1)),
        changed(lambda d: d["inputs"][0].update(size=True)),
        changed(lambda d: d["inputs"][0].update(size="1")),
        changed(lambda d: d["inputs"][0].update(why=[])),
        changed(lambda d: d["inputs"][0].update(url="there")),
        changed(lambda d: d["inputs"][-1].update(name="tools/../../etc/passwd")),
        changed(lambda d: d["inputs"][-1].update(name="executor/release/gate.py")),
        changed(lambda d: d["inputs"].append(d["inputs"][0])),
        changed(lambda d: d["indexes"][0].update(signers=[])),
        changed(lambda d: d["expect"].update(image_id="cpu:latest")),
        changed(lambda d: d["expect"]["layers"].append(["x", "sha256:1", 1])),
    ],
)
def test_a_malformed_lock_is_refused(data: bytes) -> None:
    with pytest.raises(LockError):
        parse_lock(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["recipe"]["env"].append("LD_PRELOAD=/tmp/x.so"),
        lambda d: d["recipe"].update(user="0:0"),
        lambda d: d["recipe"].update(entrypoint=["/usr/bin/python3.11", "-c", "evil"]),
        lambda d: d["recipe"].update(epoch=0),
        lambda d: d["expect"]["layers"][0].__setitem__(2, 1),
        lambda d: d["expect"].update(image_id="sha256:" + "0" * 64),
        lambda d: d["expect"].update(manifest="sha256:" + "0" * 64),
    ],
)
def test_a_lock_whose_parts_do_not_belong_together_is_refused(change: Any) -> None:
    with pytest.raises(LockError, match="do not give"):
        parse_lock(changed(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda layers: layers.reverse(),
        lambda layers: layers.pop(),
        lambda layers: layers.append(["more", "sha256:" + "0" * 64, 1]),
        lambda layers: layers.append(layers[-1]),
    ],
)
def test_a_lock_with_other_layers_than_its_inputs_make_is_refused(change: Any) -> None:
    with pytest.raises(LockError, match="other layers"):
        parse_lock(changed(lambda d: change(d["expect"]["layers"])))


@pytest.mark.parametrize(("epoch", "fits"), [(-1, False), (0, True), (0o77777777777, True), (0o100000000000, False)])
def test_a_time_is_taken_if_a_tar_header_holds_it(epoch: int, fits: bool) -> None:
    wire = load_lock("cpu").recipe.to_wire() | {"epoch": epoch}
    if fits:
        assert parse_recipe(wire).epoch == epoch
        assert len(header(Entry(path="a", kind=Kind.FILE), epoch=epoch)) == 512
    else:
        with pytest.raises(ValueError, match="wrong epoch"):
            parse_recipe(wire)


def test_a_lock_of_the_largest_size_is_read_and_a_larger_one_is_not() -> None:
    assert parse_lock(RAW + b" " * (LOCK_BYTES_MAX - len(RAW))).name == "cpu"
    with pytest.raises(LockError, match="larger than"):
        parse_lock(RAW + b" " * (LOCK_BYTES_MAX - len(RAW) + 1))


def test_a_lock_that_no_reader_would_take_is_not_written(tmp_path: Path) -> None:
    small, definition = SmallImage(tmp_path), load_definition("cpu")
    lock = small.lock()
    many = tuple(replace(lock.inputs[0], name=f"base{n}") for n in range(200))
    with pytest.raises(LockError, match="40000 at most"):
        lock_bytes(definition, (many, lock.indexes), lock.image)


@pytest.mark.parametrize("name", ["absent", "../cpu", "cpu:latest", "", "CPU"])
def test_an_image_that_is_not_locked_is_refused(name: str) -> None:
    with pytest.raises(LockError):
        load_lock(name)


def test_a_lock_is_read_by_name_and_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_bytes(RAW)
    assert read_lock(str(path)) == read_lock("cpu")
    with pytest.raises(LockError, match="No such file"):
        read_lock(str(tmp_path / "absent.json"))
    with pytest.raises(LockError, match="is locked"):
        read_lock("absent")
