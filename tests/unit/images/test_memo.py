"""Notes on layers: a layer is skipped only if nothing that it depends on changed."""

from dataclasses import replace
from pathlib import Path

import pytest

from images.lock import layer_plan
from images.memo import LayerMemo
from images.oci import Layer
from images.recipe import Recipe
from tests.unit.images.packages import SmallImage, locked


def memo(small: SmallImage, recipe: Recipe | None = None) -> LayerMemo:
    used = recipe or small.recipe
    return LayerMemo(small.folder / "memo", used, layer_plan(used, small.inputs))


def test_a_layer_is_known_until_something_that_it_depends_on_changes(tmp_path: Path) -> None:
    small = SmallImage(tmp_path)
    layers = {n: Layer(name=n, sha256=str(i) * 64, size=i) for i, n in enumerate(("os", "torch", "wheels", "worker"))}
    assert memo(small).get("os") is None
    for layer in layers.values():
        memo(small).put(layer)
    assert {n: memo(small).get(n) for n in layers} == layers
    assert memo(small, replace(small.recipe, env=("A=1",))).get("os") == layers["os"]
    assert memo(small, replace(small.recipe, epoch=0)).get("os") is None
    small.inputs = (*small.inputs[:-1], locked("source", "images/worker/job.txt", b"edited"))
    assert {n: memo(small).get(n) for n in layers} == layers | {"worker": None}


def test_another_compiler_or_another_builder_makes_other_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = SmallImage(tmp_path)
    layer = Layer(name="worker", sha256="1" * 64, size=1)
    compiled = replace(small.recipe, compiler=("base",))
    memo(small, compiled).put(layer)
    assert memo(small, compiled).get("worker") == layer
    before, small.inputs = small.inputs, (locked("deb", "base", b"newer"), *small.inputs[1:])
    assert memo(small, compiled).get("worker") is None
    small.inputs = before
    monkeypatch.setattr("images.memo.__file__", str(tmp_path / "other" / "memo.py"))
    assert memo(small, compiled).get("worker") is None


def test_a_damaged_note_is_no_note(tmp_path: Path) -> None:
    small = SmallImage(tmp_path)
    memo(small).put(Layer(name="os", sha256="1" * 64, size=1))
    (path,) = (tmp_path / "memo").iterdir()
    for data in (b"{", b"[]", b"1", b'{"sha256": 1, "size": 1}', b'{"sha256": "x", "size": 1}'):
        path.write_bytes(data)
        assert memo(small).get("os") is None
