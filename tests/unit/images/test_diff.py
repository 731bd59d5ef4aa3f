"""What a reviewer is told of a change, the alarming first."""

from dataclasses import replace
from pathlib import Path

import pytest

from executor.cli.image.diff import render
from images.diff import Kind, diff_locks
from images.lock import ImageLock, LockedInput
from images.oci import Layer
from tests.unit.images.packages import SmallImage


@pytest.fixture
def lock(tmp_path: Path) -> ImageLock:
    return SmallImage(tmp_path).lock()


def with_input(lock: ImageLock, name: str, **change: object) -> ImageLock:
    inputs = tuple(replace(i, **change) if i.name == name else i for i in lock.inputs)  # type: ignore[arg-type]
    return replace(lock, inputs=inputs)


def test_equal_locks_differ_in_nothing(lock: ImageLock) -> None:
    found = diff_locks(lock, lock)
    assert found.same
    assert render(found) == "nothing changed"
    assert found.to_wire()["same"] is True


def test_a_version_that_kept_its_name_and_changed_its_bytes_is_told_first_and_loudest(lock: ImageLock) -> None:
    new = with_input(with_input(lock, "base", version="2", sha256="1" * 64), "torch", sha256="2" * 64)
    found = diff_locks(lock, new)
    assert [c.item.name for c in found.substituted] == ["torch"]
    lines = render(found).splitlines()
    assert lines[0].startswith("!!! 1 PACKAGES KEPT THEIR VERSION AND CHANGED THEIR BYTES")
    assert lines[1].startswith("! wheel torch 1 (+0 B) SAME VERSION, OTHER HASH ")
    assert lines[2] == "~ deb base 1 -> 2 (+0 B)"


def test_a_source_of_ours_has_no_version_and_is_no_substitution(lock: ImageLock) -> None:
    found = diff_locks(lock, with_input(lock, "images/worker/job.txt", sha256="1" * 64, size=9))
    assert [(c.kind, c.size_delta) for c in found.inputs] == [(Kind.CHANGED, 3)]
    assert "~ source images/worker/job.txt (+3 B)" in render(found)


def test_an_update_from_a_security_suite_says_so(lock: ImageLock) -> None:
    new = with_input(lock, "base", version="1+deb12u1", sha256="1" * 64, size=5000, suite="bookworm-security")
    (line,) = [y for y in render(diff_locks(lock, new)).splitlines() if y.startswith("~")]
    assert line == f"~ deb base 1 -> 1+deb12u1 ({5000 - lock.inputs[0].size:+,} B) security"


def test_what_came_and_what_went_is_told(lock: ImageLock) -> None:
    more = replace(
        lock, inputs=(*lock.inputs, LockedInput(kind="wheel", name="z", version="3", size=7, sha256="0" * 64))
    )
    assert "+ wheel z 3 (+7 B)" in render(diff_locks(lock, more))
    assert "- wheel z 3 (-7 B)" in render(diff_locks(more, lock))


def test_every_rule_that_changed_is_told(lock: ImageLock) -> None:
    recipe = replace(lock.recipe, env=("A=1",), user="0:0", texts=(("etc/x", "x"),), drop=lock.recipe.drop[::-1])
    roots = replace(lock.roots, debs=(*lock.roots.debs, "bash"))
    text = render(diff_locks(lock, replace(lock, recipe=recipe, roots=roots)))
    assert "recipe user: 65532:65532 -> 0:0" in text
    assert "recipe env: +A=1 -PATH=/usr/bin" in text
    assert "recipe texts: etc/group etc/ld.so.conf etc/passwd etc/x" in text
    assert "recipe drop: in another order" in text
    assert "recipe roots.debs: +bash" in text


def test_a_new_signer_of_an_index_is_told(lock: ImageLock) -> None:
    other = tuple(replace(i, signers=("B" * 40,)) for i in lock.indexes)
    assert diff_locks(lock, replace(lock, indexes=other)).recipe["signers"] == (["A" * 40], ["B" * 40])


def test_layers_are_kept_changed_added_or_removed(lock: ImageLock) -> None:
    first, second, *rest = lock.expect.layers
    layers = (first, replace(second, sha256="0" * 64), *rest[1:], Layer(name="new", sha256="1" * 64, size=1))
    found = diff_locks(lock, replace(lock, expect=replace(lock.expect, layers=layers, image_id="sha256:" + "2" * 64)))
    assert found.layers == (
        ("os", "kept"),
        ("torch", "changed"),
        ("worker", "kept"),
        ("new", "added"),
        ("wheels", "removed"),
    )
    assert found.to_wire()["image_id"]["new"] == "sha256:" + "2" * 64
