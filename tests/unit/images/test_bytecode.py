"""Bytecode: cached by what it was made of, and never taken when damaged."""

from pathlib import Path

import pytest

from images.bytecode import BytecodeCache, ImageInterpreter, UseOfBytecode, sources_among
from images.errors import ImageError
from images.tar import Entry, Kind

SOURCES = [Entry(path="a/x.py", kind=Kind.FILE, data=b"x = 1\n"), Entry(path="a/y.py", kind=Kind.FILE, data=b"")]
CODE = {"a/__pycache__/x.cpython-311.pyc": b"code", "a/__pycache__/y.cpython-311.pyc": b""}


def cache(folder: Path, use: UseOfBytecode = UseOfBytecode.KEEP, *interpreter: str) -> BytecodeCache:
    return BytecodeCache(folder, interpreter=interpreter or ("1" * 64,), use=use)


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    found = cache(tmp_path / "new")
    key = found.key(SOURCES)
    assert found.get(key) is None
    found.put(key, CODE)
    assert found.get(key) == CODE
    found.put(key, {})
    assert found.get(key) == {}


def test_whatever_the_bytecode_depends_on_changes_its_key(tmp_path: Path) -> None:
    one, two = SOURCES
    moved = Entry(path="b/x.py", kind=Kind.FILE, data=one.data)
    edited = Entry(path=one.path, kind=Kind.FILE, data=b"x = 2\n")
    keys = {cache(tmp_path).key(s) for s in ([one, two], [two, one], [one], [moved, two], [edited, two])}
    keys.add(cache(tmp_path, UseOfBytecode.KEEP, "2" * 64).key(SOURCES))
    assert len(keys) == 6


@pytest.mark.parametrize("position", [0, 40, -1])
def test_damaged_bytecode_is_compiled_again(tmp_path: Path, position: int) -> None:
    found = cache(tmp_path)
    key = found.key(SOURCES)
    found.put(key, CODE)
    data = bytearray((tmp_path / key).read_bytes())
    data[position] ^= 1
    (tmp_path / key).write_bytes(data)
    assert found.get(key) is None


def test_nothing_is_kept_or_taken_where_that_is_asked(tmp_path: Path) -> None:
    key = cache(tmp_path).key(SOURCES)
    for use in (UseOfBytecode.READ, UseOfBytecode.IGNORE):
        cache(tmp_path, use).put(key, CODE)
    assert list(tmp_path.iterdir()) == []
    cache(tmp_path).put(key, CODE)
    assert cache(tmp_path, UseOfBytecode.READ).get(key) == CODE
    assert cache(tmp_path, UseOfBytecode.IGNORE).get(key) is None


def test_sources_are_python_files_and_nothing_else() -> None:
    entries = [*SOURCES, Entry(path="b.py", kind=Kind.SYMLINK, target="x"), Entry(path="c.pyi", kind=Kind.FILE)]
    assert sources_among(entries) == SOURCES


def test_an_image_of_another_architecture_cannot_be_compiled_here() -> None:
    with pytest.raises(ImageError, match="bytecode for arm64 cannot be compiled"):
        ImageInterpreter([], version="3.11", architecture="arm64")
