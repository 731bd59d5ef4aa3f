"""The store: nothing in it is trusted, and nothing of it is half there."""

import hashlib
import itertools
import os
import time
from pathlib import Path

import pytest

from images.errors import InputError, StoreError
from images.store import Blob, BlobStore


def blob(data: bytes, name: str = "deb libc6 1") -> Blob:
    return Blob(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def test_what_is_put_comes_back(tmp_path: Path) -> None:
    store, item = BlobStore(tmp_path / "s"), blob(b"data")
    assert not store.has(item)
    store.put(item, [b"da", b"ta"])
    assert store.has(item)
    assert store.read(item) == b"data"
    with store.open(item) as file:
        assert file.read() == b"data"


def test_one_flipped_byte_in_a_cached_blob_is_refused_by_name(tmp_path: Path) -> None:
    store, item = BlobStore(tmp_path), blob(b"data")
    store.put(item, [b"data"])
    store.path(item.sha256).write_bytes(b"datb")
    for read in (store.read, store.open):
        with pytest.raises(InputError, match="deb libc6 1"):
            read(item)


@pytest.mark.parametrize("chunks", [[b"evil"], [b"dat"], [b"data", b"more"], [b"data" * 1000], []])
def test_other_bytes_are_refused_by_name_and_not_kept(tmp_path: Path, chunks: list[bytes]) -> None:
    store, item = BlobStore(tmp_path), blob(b"data")
    with pytest.raises(InputError, match="deb libc6 1"):
        store.put(item, chunks)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_sender_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield b"da"
        raise OSError("gone")

    store = BlobStore(tmp_path)
    with pytest.raises(StoreError, match="cannot write to the cache"):
        store.put(blob(b"data"), broken())  # type: ignore[arg-type]
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_blob_of_another_size_is_not_there(tmp_path: Path) -> None:
    store, item = BlobStore(tmp_path), blob(b"data")
    store.put(item, [b"data"])
    store.path(item.sha256).write_bytes(b"data and more")
    assert not store.has(item)
    store.put(item, [b"data"])
    assert store.read(item) == b"data"


def test_a_missing_blob_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not in the cache: deb libc6 1"):
        BlobStore(tmp_path).open(blob(b"x"))


def test_a_sender_without_end_is_cut_off(tmp_path: Path) -> None:
    store, item = BlobStore(tmp_path), blob(b"data")
    with pytest.raises(InputError, match="deb libc6 1"):
        store.put(item, itertools.repeat(b"x" * 1000))


def test_intact_is_what_its_digest_says_and_not_what_has_its_size(tmp_path: Path) -> None:
    store, item = BlobStore(tmp_path), blob(b"data")
    assert not store.intact(item)
    store.put(item, [b"data"])
    assert store.intact(item)
    store.path(item.sha256).write_bytes(b"datb")
    assert (store.has(item), store.intact(item)) == (True, False)


def test_what_cannot_be_read_is_no_input(tmp_path: Path) -> None:
    store, item = BlobStore(tmp_path), blob(b"data")
    store.path(item.sha256).mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be read: deb libc6 1"):
        store.open(item)
    with pytest.raises(StoreError, match="cannot write to the cache"):
        store.put(item, [b"data"])


def test_what_a_killed_process_left_is_swept_after_a_day(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    old, new = tmp_path / ".partial-old", tmp_path / ".partial-new"
    for path, age in ((old, 86_401), (new, 86_000)):
        path.write_bytes(b"")
        os.utime(path, (time.time() - age,) * 2)
    store.put(blob(b"data"), [b"data"])
    assert (old.exists(), new.exists()) == (False, True)
