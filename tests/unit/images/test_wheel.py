"""Wheels: every file is what RECORD says, and lies where a wheel may put it."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Callable

import pytest

from images.errors import UnsafeEntryError
from images.tar import Entry
from images.wheel import SITE, read_metadata, read_wheel
from tests.unit.images.packages import wheel


def everything(_path: str) -> bool:
    return True


def read(data: bytes, keeps: Callable[[str], bool] = everything) -> list[Entry]:
    entries = list(read_wheel(io.BytesIO(data), name="p", keeps=keeps))
    for entry in entries:
        entry.read()
    return entries


def test_a_wheel_is_read_in_order_and_without_its_scripts() -> None:
    data = wheel({"p/b.py": b"", "p/a.py": b"x", "p-1.data/scripts/run": b"#!", "p-1.data/purelib/c.py": b"c"})
    found = read(data)
    assert [e.path for e in found] == [
        f"{SITE}/c.py",
        f"{SITE}/p-1.dist-info/RECORD",
        f"{SITE}/p/a.py",
        f"{SITE}/p/b.py",
    ]
    assert [e.read() for e in found if e.path.endswith(".py")] == [b"c", b"x", b""]
    assert {e.size for e in found if e.path.endswith("a.py")} == {1}


@pytest.mark.parametrize(
    ("files", "record", "words"),
    [
        ({"p/a.py": b"evil"}, {"p/a.py": b"good"}, "differs from RECORD"),
        ({"p/a.py": b"", "p/b.py": b""}, {"p/a.py": b""}, "not in RECORD"),
        ({"../a.py": b""}, None, "unsafe path"),
        ({"p//a.py": b""}, None, "unsafe path"),
        ({"/a.py": b""}, None, "unsafe path"),
        ({"p\\a.py": b""}, None, "unsafe path"),
    ],
)
def test_a_wheel_that_is_not_its_record_is_refused(
    files: dict[str, bytes], record: dict[str, bytes] | None, words: str
) -> None:
    with pytest.raises(UnsafeEntryError, match=words):
        read(wheel(files, record=record))


def test_a_file_that_the_image_drops_is_not_unpacked_and_yet_must_be_listed() -> None:
    lying = wheel({"p/a.h": b"evil", "p/a.py": b""}, record={"p/a.h": b"good", "p/a.py": b""})
    assert [e.path for e in read(lying, lambda path: path.endswith("a.py"))] == [f"{SITE}/p/a.py"]
    unlisted = wheel({"p/a.h": b"", "p/a.py": b""}, record={"p/a.py": b""})
    with pytest.raises(UnsafeEntryError, match="not in RECORD"):
        read(unlisted, lambda path: path.endswith("a.py"))


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", wheel({"p/a.py": b"x"})[:-30]])
def test_what_is_no_wheel_is_refused(data: bytes) -> None:
    with pytest.raises(UnsafeEntryError, match="not a wheel"):
        read(data)


def test_a_wheel_with_two_members_of_one_name_is_refused() -> None:
    out = io.BytesIO(wheel({"p/a.py": b"x"}))
    with zipfile.ZipFile(out, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("p/a.py", b"y")
    with pytest.raises(UnsafeEntryError, match="duplicate member"):
        read(out.getvalue())


def test_a_flipped_byte_in_a_member_is_refused() -> None:
    data = bytearray(wheel({"p/a.py": b"marker-of-content"}))
    data[data.index(b"marker-of-content")] ^= 1
    with pytest.raises(UnsafeEntryError, match="damaged file"):
        read(bytes(data))


def test_metadata_is_the_wheels_own() -> None:
    data = wheel({"p-1.dist-info/METADATA": b"Name: p\n", "p/q.dist-info/METADATA": b"Name: other\n"})
    assert read_metadata(io.BytesIO(data), name="p") == "Name: p\n"
    with pytest.raises(UnsafeEntryError, match="without METADATA"):
        read_metadata(io.BytesIO(wheel({"p/a.py": b""})), name="p")


def repacked(change: Callable[[bytearray], None]) -> bytes:
    data = bytearray(wheel({"p/a.bin": b"content" * 100}))
    change(data)
    return bytes(data)


def _set(signature: bytes, offset: int, value: bytes) -> Callable[[bytearray], None]:
    """Write into the first header with a signature (PKWARE APPNOTE 4.3.7, 4.3.12)."""

    def change(data: bytearray) -> None:
        start = data.index(signature) + offset
        data[start : start + len(value)] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set(b"PK\x01\x02", 10, b"\x63\x00"), "packed in another way"),
        (_set(b"PK\x01\x02", 10, b"\x0c\x00"), "packed in another way"),
        (_set(b"PK\x01\x02", 10, b"\x0e\x00"), "packed in another way"),
        (_set(b"PK\x01\x02", 8, b"\x01\x00"), "packed in another way"),
        (_set(b"PK\x01\x02", 6, b"\x63\x00"), "not a wheel|damaged"),
        (_set(b"PK\x01\x02", 24, b"\xff\x00\x00\x00"), "damaged|another size"),
        (_set(b"PK\x01\x02", 42, b"\xff\xff\x00\x00"), "damaged"),
        (_set(b"PK\x03\x04", 30, b"p/b"), "damaged"),
    ],
    ids=["method", "bzip2", "lzma", "encrypted", "version", "size", "offset", "local name"],
)
def test_an_archive_that_is_not_packed_as_wheels_are_is_refused(
    change: Callable[[bytearray], None], words: str
) -> None:
    with pytest.raises(UnsafeEntryError, match=words):
        read(repacked(change))


@pytest.mark.parametrize(
    "record",
    [
        b"\xff\xfe",
        b"p/a," + b"x" * 200_000,
        b"p/a,sha256=x,1\np/a,sha256=y,1\n",
        b"p/a,md5=x,1\n",
        b"p/a,,\n",
        b"p/a\n",
    ],
)
def test_a_record_that_says_nothing_certain_is_refused(record: bytes) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("p/a", b"x")
        archive.writestr("p-1.dist-info/RECORD", record)
    with pytest.raises(UnsafeEntryError):
        read(out.getvalue())


def test_a_digest_that_is_too_weak_is_refused() -> None:
    for algorithm in ("md5", "sha1", "blake2b"):
        out = io.BytesIO()
        value = base64.urlsafe_b64encode(hashlib.new(algorithm, b"x").digest()).rstrip(b"=").decode()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("p/a", b"x")
            archive.writestr("p-1.dist-info/RECORD", f"p/a,{algorithm}={value},1\n")
        with pytest.raises(UnsafeEntryError, match=f"uses '{algorithm}'"):
            read(out.getvalue())


def test_a_record_that_lists_what_is_not_there_is_refused() -> None:
    with pytest.raises(UnsafeEntryError, match="not there: p/b"):
        read(wheel({"p/a": b""}, record={"p/a": b"", "p/b": b""}))


def test_a_folder_that_only_looks_like_the_wheels_data_is_a_folder() -> None:
    found = read(wheel({"q-1.data/scripts/run": b"x", "p-1.data/scripts/run": b"x"}))
    assert [e.path for e in found] == [f"{SITE}/p-1.dist-info/RECORD", f"{SITE}/q-1.data/scripts/run"]


def test_a_member_without_a_name_is_refused() -> None:
    data = bytearray(wheel({"p": b"x"}))
    start = data.index(b"PK\x01\x02")
    data[start + 28 : start + 30] = b"\x00\x00"
    with pytest.raises(UnsafeEntryError):
        read(bytes(data))


def test_a_wheel_with_two_records_is_refused() -> None:
    out = io.BytesIO(wheel({"p/a.py": b"x"}))
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("q-1.dist-info/RECORD", "")
    with pytest.raises(UnsafeEntryError, match="exactly one RECORD"):
        read(out.getvalue())
