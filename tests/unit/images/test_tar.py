"""The tar writer: golden bytes, readable by others, one form."""

import io
import tarfile
from dataclasses import replace

import pytest

from images.tar import Entry, Kind, Stream, header, record_digest, write_tar

EPOCH = 1767225600
ENTRIES = [
    Entry(path="d", kind=Kind.DIRECTORY),
    Entry(path="d/f", kind=Kind.FILE, data=b"hello"),
    Entry(path="d/x", kind=Kind.FILE, data=b"#!", executable=True),
    Entry(path="l", kind=Kind.SYMLINK, target="d/f"),
    Entry(path="tmp", kind=Kind.DIRECTORY, mode=0o1777),
]
# The first is also what GNU tar 1.34 writes for these files (--format=ustar --numeric-owner --owner=0 --group=0
# --mtime=@1767225600 -b1). A change of these is a change of every image's digest.
GOLDEN = "6179d3135d4e3893a27c4f1cb73195c2d3537f428d4d2c812b2f713db4a13882"
GOLDEN_LONG = "1eb51facdccf2be9b1f9ea77046ee1eae5087ccd0552cddb394fd795fa0377f8"


def written(*entries: Entry) -> tuple[bytes, str]:
    out = io.BytesIO()
    digest = write_tar(out, entries, epoch=EPOCH)
    assert digest.size == len(out.getvalue())
    return out.getvalue(), digest.sha256


def test_the_bytes_are_golden() -> None:
    assert written(*ENTRIES)[1] == GOLDEN


def test_the_bytes_of_long_and_foreign_names_are_golden() -> None:
    long = Entry(path="d/" + "n" * 120, kind=Kind.FILE, data=b"x")
    foreign = Entry(path="d/ä", kind=Kind.SYMLINK, target="t" * 101)
    assert written(long, foreign)[1] == GOLDEN_LONG


def test_others_read_what_is_written() -> None:
    data, _ = written(*ENTRIES, Entry(path="d/" + "n" * 120, kind=Kind.FILE, data=b"long"))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {m.name: m for m in archive.getmembers()}
        assert archive.extractfile(members["d/" + "n" * 120]).read() == b"long"  # type: ignore[union-attr]
    assert {n: oct(m.mode) for n, m in members.items() if len(n) < 5} == {
        "d": "0o755",
        "d/f": "0o644",
        "d/x": "0o755",
        "l": "0o777",
        "tmp": "0o1777",
    }
    assert {(m.uid, m.gid, m.mtime) for m in members.values()} == {(0, 0, EPOCH)}


@pytest.mark.parametrize("length", [99, 100, 101, 255, 989, 990])
def test_names_around_every_boundary_survive(length: int) -> None:
    data, _ = written(Entry(path="n" * length, kind=Kind.FILE, data=b"x"))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["n" * length]


def test_every_part_of_an_entry_changes_the_digest() -> None:
    entry = ENTRIES[1]
    digests = {
        written(e)[1]
        for e in (entry, replace(entry, data=b"hellp"), replace(entry, path="d/g"), replace(entry, executable=True))
    }
    assert len(digests) == 4


def test_streamed_content_gives_the_bytes_of_content_at_hand() -> None:
    data = b"0123456789" * 1000
    stream = Stream(size=len(data), digest=record_digest(data), open=lambda: iter([data[:7], b"", data[7:]]))
    here, there = Entry(path="d/f", kind=Kind.FILE, data=data), Entry(path="d/f", kind=Kind.FILE, stream=stream)
    assert written(here) == written(there)
    assert here.identity == there.identity
    assert there.read() == data


@pytest.mark.parametrize("chunks", [[b"short"], [b"much too long for it"], []])
def test_content_of_another_size_than_its_header_says_is_refused(chunks: list[bytes]) -> None:
    stream = Stream(size=10, digest="", open=lambda: iter(chunks))
    with pytest.raises(ValueError, match="d/f has"):
        written(Entry(path="d/f", kind=Kind.FILE, stream=stream))


def test_a_file_of_eight_gibibytes_is_refused_and_one_a_byte_smaller_has_a_header() -> None:
    largest = Stream(size=0o77777777777, digest="", open=lambda: iter(()))
    assert len(header(Entry(path="f", kind=Kind.FILE, stream=largest), epoch=EPOCH)) == 512
    with pytest.raises(ValueError, match="larger than 8 GiB"):
        header(Entry(path="f", kind=Kind.FILE, stream=replace(largest, size=1 << 33)), epoch=EPOCH)
