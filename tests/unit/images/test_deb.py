"""Debian packages: what may not be in an image is refused by name, and nothing of them runs."""

import tarfile

import pytest

from images.deb import merged, read_deb
from images.errors import UnsafeEntryError
from tests.unit.images.packages import deb, special


def test_a_deb_is_read_with_merged_paths_and_without_modes() -> None:
    data = deb({"./bin/sh": b"x", "./lib/a.so": b"y", "./etc/z": b"z"})
    assert [(e.path, e.executable) for e in read_deb(data, name="p").entries] == [
        ("usr/bin/sh", False),
        ("usr/lib/a.so", False),
        ("etc/z", False),
    ]


def test_control_fields_and_checksums_are_read() -> None:
    control = "Package: p\nDepends: a (>= 1),\n b | c\nDescription: one\n two\n"
    found = read_deb(deb({}, control=control, md5sums="0  usr/x\n"), name="p")
    assert found.fields["Depends"] == "a (>= 1), b | c"
    assert (found.control, found.md5sums) == (control, "0  usr/x\n")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_special_file_in_a_deb_is_refused(kind: bytes) -> None:
    with pytest.raises(UnsafeEntryError, match="special file"):
        read_deb(deb({"d": special("./d", kind)}), name="p")


def test_a_path_that_leaves_the_root_is_refused() -> None:
    with pytest.raises(UnsafeEntryError, match="leaves the root"):
        read_deb(deb({"./a/../../b": b""}), name="p")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"l": special("./b", tarfile.LNKTYPE, "./absent")}, "hard link to no file"),
        ({"d": special("./d", tarfile.DIRTYPE), "l": special("./b", tarfile.LNKTYPE, "./d")}, "hard link to no file"),
        (
            {"s": special("./s", tarfile.SYMTYPE, "s"), "l": special("./b", tarfile.LNKTYPE, "./s")},
            "hard link to no file",
        ),
        ({"l": special("./b", tarfile.LNKTYPE, "../../etc/passwd")}, "leaves the root"),
        ({"s": special("./s", tarfile.GNUTYPE_SPARSE)}, "special file"),
        ({"s": special("./s", b"V")}, "special file"),
    ],
)
def test_a_link_to_nothing_and_a_strange_member_are_refused(
    files: dict[str, bytes | tarfile.TarInfo], words: str
) -> None:
    with pytest.raises(UnsafeEntryError, match=words):
        read_deb(deb(files), name="p")


@pytest.mark.parametrize("size", [b"-60       ", b"1e3       ", b"          ", b"0x10      "])
def test_a_size_that_is_no_number_is_refused_and_does_not_hang(size: bytes) -> None:
    data = bytearray(deb({"./a": b"x"}))
    data[8 + 48 : 8 + 58] = size
    with pytest.raises(UnsafeEntryError, match="not a Debian package"):
        read_deb(bytes(data), name="p")


@pytest.mark.parametrize("length", range(8))
def test_members_of_odd_and_of_even_size_are_found(length: int) -> None:
    found = read_deb(deb({"./a": b"x" * length}, md5sums="0  a\n" * length), name="p")
    assert [e.data for e in found.entries] == [b"x" * length]


def test_a_hard_link_becomes_a_file_of_the_same_content() -> None:
    found = read_deb(deb({"./a": b"x", "link": special("./b", tarfile.LNKTYPE, "./a")}), name="p")
    assert [(e.path, e.data) for e in found.entries] == [("a", b"x"), ("b", b"x")]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"!<arch>\n",
        deb({}, member="data.tar.zst"),
        deb({"./a": b"x" * 4000})[:-200],
        deb({"link": special("./b", tarfile.LNKTYPE, "./absent")}),
    ],
)
def test_what_is_no_readable_deb_is_refused(data: bytes) -> None:
    with pytest.raises(UnsafeEntryError, match="Debian package"):
        read_deb(data, name="p")


def test_only_top_level_folders_are_merged() -> None:
    assert [merged(p) for p in ("lib/x", "usr/lib/x", "libexec/x", "opt/lib/x")] == [
        "usr/lib/x",
        "usr/lib/x",
        "libexec/x",
        "opt/lib/x",
    ]
