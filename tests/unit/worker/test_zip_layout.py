"""ZIP archives: one plain reading, or none."""

import io
import struct
import zipfile
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

read_members: Any = import_module("worker.inventory.zip_layout").read_members
sniff: Any = import_module("worker.inventory.sniff").sniff
Inventory: Any = import_module("worker.inventory.report").Inventory


def plain(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED, wide: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members or (("a", b"alpha"), ("b/c", b"")):
            with archive.open(name, "w", force_zip64=wide) as member:
                member.write(content)
    return out.getvalue()


def read(data: bytes, *, room: int = 1 << 20, deflated: bool = True) -> dict[str, bytes]:
    members = read_members(data, unpacked_bytes_max=room, deflated=deflated)
    assert all(len(member.head) == member.size for member in members.values())
    return {name: bytes(member.head) for name, member in members.items()}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("wide", [False, True])
def test_what_zipfile_writes_is_read(method: int, wide: bool) -> None:
    assert read(plain(method=method, wide=wide)) == {"a": b"alpha", "b/c": b""}


def test_compression_is_refused_where_it_is_not_allowed() -> None:
    with pytest.raises(ValueError, match="not allowed"):
        read(plain(method=zipfile.ZIP_DEFLATED), deflated=False)


def test_members_up_to_the_limit_pass_and_one_byte_more_is_refused() -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        data = plain(("a", b"12345"), ("b", b"67890"), method=method)
        assert len(read(data, room=10)) == 2
        with pytest.raises(ValueError, match="larger"):
            read(data, room=9)


def test_any_flipped_byte_is_refused_or_is_of_a_field_that_no_reader_uses() -> None:
    data = plain()
    honest = read(data)
    for position in range(len(data)):
        for bit in (0x01, 0x80):
            changed = bytearray(data)
            changed[position] ^= bit
            try:
                assert read(bytes(changed)) == honest
            except ValueError:
                continue


def test_two_directories_in_one_file_are_refused() -> None:
    """Zipfile takes the one right before the end record, miniz the one at the stated offset."""
    evil, honest = plain(("m", b"evil" * 50)), plain(("m", b"good" * 50))
    size = struct.unpack("<L", evil[-10:-6])[0]
    start = len(evil) - 22 - size
    locals_both = evil[:start] + honest[:start]
    first = evil[start:-22]
    second = bytearray(honest[start:-22])
    second[42:46] = struct.pack("<L", start - size)
    end = evil[-22:-6] + struct.pack("<L", len(locals_both)) + b"\0\0"
    mixed = locals_both + first + bytes(second) + end
    assert zipfile.ZipFile(io.BytesIO(mixed)).read("m") == b"good" * 50
    with pytest.raises(ValueError, match="right before the end record"):
        read(mixed)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"junk" + plain(),
        plain() + b"junk",
        plain() + plain(),
        plain(("a", b""), ("../b", b"")),
        plain(("/a", b"")),
        plain(("a//b", b"")),
        plain(("a\\b", b"")),
        plain(("\u00e4", b"")),
    ],
)
def test_anything_but_one_gapless_archive_of_plain_paths_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        read(data)


def patched(data: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    """Return an archive with bytes of its first header of a kind, or of its end record, set."""
    place = data.index(mark) + offset
    return data[:place] + value + data[place + len(value) :]


def with_gap(junk: bytes) -> bytes:
    """Put bytes between the last member and the directory, which the end record then points at."""
    data = plain(("a", b"alpha"))
    start = data.index(b"PK\x01\x02")
    return patched(data[:start] + junk + data[start:], b"PK\x05\x06", 16, struct.pack("<L", start + len(junk)))


def with_extra(extra: bytes) -> bytes:
    """Give the one member an extra field in front."""
    data = patched(plain(("a", b"")), b"PK\x03\x04", 28, struct.pack("<H", len(extra)))
    data = data[:31] + extra + data[31:]
    return patched(data, b"PK\x05\x06", 16, struct.pack("<L", 31 + len(extra)))


def deflated(change: Callable[[bytes], bytes]) -> bytes:
    """Return an archive whose one compressed member was changed, at the same length."""
    data = plain(("a", bytes(range(256)) * 8), method=zipfile.ZIP_DEFLATED)
    end = data.index(b"PK\x01\x02")
    content = change(data[31:end])
    assert len(content) == end - 31
    return data[:31] + content + data[end:]


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_gap(b"junk"), "no member and no directory entry accounts for"),
        (plain() + b"x", "does not end in a plain end record"),
        (patched(plain(), END, 20, b"\x01\0"), "does not end in a plain end record"),
        (patched(plain(), END, 8, b"\x03\0\x03\0"), "shorter than its count"),
        (patched(plain(), LOCAL, 8, b"\x08\0"), "disagrees with the directory"),
        (patched(plain(), LOCAL, 14, b"\0\0\0\0"), "disagrees with the directory"),
        (patched(patched(plain(), LOCAL, 18, b"\xff" * 8), CENTRAL, 20, b"\xff" * 8), "reach into the directory"),
        (with_extra(b"\x01\0\x10\0"), "extra field"),
        (with_extra(struct.pack("<2H2Q", 2, 16, 0, 0)), "extra field"),
        (with_extra(struct.pack("<2H2Q", 1, 16, 1, 1)), "extra field"),
        (deflated(lambda content: b"\xff" * len(content)), "is damaged"),
        (deflated(lambda content: b"\x03\0".ljust(len(content), b"\0")), "does not end where its header says"),
        (deflated(lambda content: content[:-4] + bytes(4)), "damaged|does not end|not what"),
        (patched(plain(("a", b"alpha")), b"alpha", 0, b"A"), "not what its header says"),
    ],
)
def test_each_way_to_be_two_archives_is_refused_for_itself(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(data)


def test_members_may_fill_the_room_and_no_more() -> None:
    assert read(plain(("a", b"alpha")), room=5) == {"a": b"alpha"}
    with pytest.raises(ValueError, match="larger than allowed"):
        read(plain(("a", b"alpha")), room=4)


def test_of_a_compressed_member_all_is_checked_and_only_the_head_is_kept() -> None:
    data = plain(("a", bytes(3 << 20)), method=zipfile.ZIP_DEFLATED)
    (member,) = read_members(data, unpacked_bytes_max=3 << 20, deflated=True).values()
    assert (len(member.head), member.size) == (1 << 20, 3 << 20)
    with pytest.raises(ValueError, match="larger than allowed"):
        read(data, room=(3 << 20) - 1)


def test_a_member_that_stands_twice_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        data = plain(("a", b"1"), ("a", b"2"))
    with pytest.raises(ValueError, match="twice"):
        read(data)


def test_an_archive_with_a_comment_or_a_data_descriptor_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.comment = b"x"
        archive.writestr("a", b"")
    with pytest.raises(ValueError):
        read(out.getvalue())

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr("a", b"x")
    with pytest.raises(ValueError):
        read(bytes(pipe.data))


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"\x08\x0a\x12\x00", "onnx"),
        (b"\x80\x04K\x01.", "pickle"),
        (b"cos\nsystem\n(Vtrue\ntR.", "pickle"),
        (b"{}", "json"),
        (b"plain words, and a stop.", "text"),
        (b"", "text"),
        (b"\x1b[2J", "unknown"),
        ("\u009b2J".encode(), "unknown"),
        ("a\u202eb".encode(), "unknown"),
        (b"\xff", "unknown"),
        (plain(("x.npy", b"")), "npz"),
        (plain(("x.txt", b"")), "zip"),
        (plain(("m/data.pkl", b""), ("m/code/__torch__.py", b"")), "torchscript"),
    ],
)
def test_a_format_is_told_by_its_content(data: bytes, form: str) -> None:
    assert sniff(data) == form


def test_a_name_that_is_too_long_or_no_text_is_cut_and_is_a_finding() -> None:
    for name in ("A" * 201, "\ud800"):
        report = Inventory("onnx")
        report.use("", name, "here")
        wire = report.to_wire()
        assert [f["id"] for f in wire["findings"]] == ["OPERATOR-NAME"]
        assert wire["operators"][0]["name"] != name
        wire["operators"][0]["name"].encode()
    report = Inventory("onnx")
    report.use("", "A" * 200, "here")
    assert report.to_wire()["findings"] == []


def with_field(data: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    """Return an archive with some bytes of its first header of a kind set."""
    at = data.index(mark) + offset
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize(
    ("mark", "offset", "taken", "refused"),
    [
        (b"PK\x01\x02", 6, b"\x2d\0", b"\x2e\0"),  # version needed to extract: Python reads none beyond 6.3
        (b"PK\x03\x04", 4, b"\x2d\0", b"\x2e\0"),
        (b"PK\x01\x02", 34, b"\0\0", b"\x01\0"),  # on another disk
        (b"PK\x01\x02", 38, b"\0\0\xa4\x81", b"\x10\0\xa4\x81"),  # a folder, which torch leaves unread
        (b"PK\x01\x02", 38, b"\0\0\0\0", b"\0\x01\0\0"),
    ],
)
def test_a_field_that_some_reader_obeys_is_refused(mark: bytes, offset: int, taken: bytes, refused: bytes) -> None:
    assert read(with_field(plain(), mark, offset, taken)) == read(plain())
    with pytest.raises(ValueError):
        read(with_field(plain(), mark, offset, refused))
