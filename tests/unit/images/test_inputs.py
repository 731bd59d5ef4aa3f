"""Inputs: fetched only where the store lacks them, and taken only as what the lock names."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from images import inputs
from images.errors import InputError
from images.inputs import blob_of, fetch_inputs, missing_inputs, read_sources
from images.lock import ImageLock, LockedInput, load_lock
from images.store import BlobStore
from tests.unit.images.packages import locked

LOCK = load_lock("cpu")


def lock_of(*items: LockedInput) -> ImageLock:
    return replace(LOCK, inputs=items)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let pip download one wheel, `good`, whatever it is asked for; returns what it was asked."""
    asked: list[list[str]] = []

    def download(wanted: Sequence[str], target: Path, *, constraints: object, **_options: Any) -> None:
        assert constraints is None
        asked.append(list(wanted))
        (target / "a.whl").write_bytes(b"good")

    monkeypatch.setattr(inputs, "pip_download", download)
    return asked


def test_only_what_the_store_lacks_is_fetched_and_a_substitute_is_refused_by_name(
    tmp_path: Path, pip: list[list[str]]
) -> None:
    good, other = locked("wheel", "good", b"good"), locked("wheel", "other", b"other")
    store, lock = BlobStore(tmp_path), lock_of(good, other)
    assert fetch_inputs(lock, [good], store) == 1
    assert fetch_inputs(lock, [good], store) == 0
    assert pip == [["good===1"]]
    with pytest.raises(InputError, match="wheel other 1"):
        fetch_inputs(lock, lock.inputs, store)
    assert missing_inputs(lock.inputs, store) == [other]


def test_sources_come_from_the_checkout_if_they_are_what_the_lock_names(tmp_path: Path) -> None:
    path = tmp_path / "checkout/tools/a.py"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"locked")
    item, store = locked("source", "tools/a.py", b"locked"), BlobStore(tmp_path / "store")
    assert fetch_inputs(lock_of(item), [item], store, checkout=tmp_path / "checkout") == 1
    assert store.read(blob_of(item)) == b"locked"
    path.write_bytes(b"edited")
    fresh = BlobStore(tmp_path / "fresh")
    with pytest.raises(InputError, match=r"differs from the lock: tools/a\.py"):
        fetch_inputs(lock_of(item), [item], fresh, checkout=tmp_path / "checkout")
    path.unlink()
    with pytest.raises(InputError, match=r"not in this checkout: tools/a\.py"):
        fetch_inputs(lock_of(item), [item], fresh, checkout=tmp_path / "checkout")


def test_a_checkout_without_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images/worker"):
        list(read_sources(tmp_path))


def test_inputs_are_named_by_the_digest_that_a_registry_would_use() -> None:
    item = locked("wheel", "good", b"good")
    assert blob_of(item).sha256 == hashlib.sha256(b"good").hexdigest()
    assert str(blob_of(item).name) == "wheel good 1"
