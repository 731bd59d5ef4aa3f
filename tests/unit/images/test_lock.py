"""The lock: strict, small, and without the name of any place."""

import json
from typing import Any

import pytest

from images.build import Image, Layer, check_expected
from images.errors import LockError, NotReproducedError
from images.lock import load_lock, lock_path, parse_lock

RAW = lock_path("cpu").read_bytes()


def changed(change: Any) -> bytes:
    document = json.loads(RAW)
    change(document)
    return json.dumps(document).encode()


def test_the_lock_pins_everything_by_digest_and_names_no_place() -> None:
    lock = load_lock("cpu")
    assert {i.kind for i in lock.inputs} == {"deb", "wheel"}
    assert all(len(i.sha256) == 64 and i.size > 0 for i in lock.inputs)
    assert b"://" not in RAW
    assert len(RAW) < 40_000
    assert ("torch", "2.13.0+cpu") in {(i.name, i.version) for i in lock.inputs}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        changed(lambda d: d.update(schema="executor.image-lock/v2")),
        changed(lambda d: d.pop("inputs")),
        changed(lambda d: d["inputs"][0].update(sha256="0" * 63)),
        changed(lambda d: d["inputs"][0].update(kind="rpm")),
        changed(lambda d: d["inputs"][0].update(filename="../x")),
        changed(lambda d: d["inputs"][0].update(version="")),
        changed(lambda d: d["expect"].update(image_id="cpu:latest")),
        changed(lambda d: d["expect"]["layers"].append(["x", "sha256:1"])),
    ],
)
def test_a_malformed_lock_is_refused(data: bytes) -> None:
    with pytest.raises(LockError):
        parse_lock(data)


@pytest.mark.parametrize("name", ["absent", "../cpu", "cpu:latest", "", "CPU"])
def test_an_image_that_is_not_locked_is_refused(name: str) -> None:
    with pytest.raises(LockError):
        load_lock(name)


def image(**layers: str) -> Image:
    expected = dict(load_lock("cpu").expect.layers) | layers
    built = tuple(Layer(name=n, sha256=d[7:], size=0, path=lock_path("cpu")) for n, d in expected.items())
    return Image(layers=built, config=b"{}", manifest=b"{}", name="cpu", epoch=0)


def test_a_layer_that_differs_from_the_lock_is_refused_by_name() -> None:
    with pytest.raises(NotReproducedError, match="layer 'wheels'"):
        check_expected(image(wheels="sha256:" + "0" * 64), load_lock("cpu"))


def test_a_configuration_that_differs_from_the_lock_is_refused() -> None:
    with pytest.raises(NotReproducedError, match="configuration"):
        check_expected(image(), load_lock("cpu"))
