"""Files are written whole by any number of writers; named files are read if they end and are small."""

import errno
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from signing import files
from signing.files import (
    create,
    make_folder,
    open_appending,
    read_named,
    staged_files,
    staged_path,
    write_whole,
)

MASKS = pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o277, 0o777])


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_file_is_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    assert read_named(tmp_path / "link") == b"x"


@pytest.mark.parametrize(("size", "fits"), [(9, True), (10, True), (11, False)])
def test_a_file_of_more_than_so_many_bytes_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, fits: bool
) -> None:
    monkeypatch.setattr(files, "NAMED_BYTES_MAX", 10)
    (tmp_path / "file").write_bytes(b"x" * size)
    if fits:
        assert len(read_named(tmp_path / "file")) == size
        return
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_named(tmp_path / "file")


@pytest.mark.parametrize("path", ["/dev/zero", "/", "/dev/null"])
def test_what_is_no_plain_file_is_not_read(path: str) -> None:
    with pytest.raises(OSError, match="not a plain file"):
        read_named(Path(path))


def test_many_writers_of_one_name_do_not_meet(tmp_path: Path) -> None:
    """As where runs use the same code for the first time at once."""
    path, contents = tmp_path / "file", [bytes([letter]) * 10_000 for letter in range(8)]
    with ThreadPoolExecutor(len(contents)) as writers:
        for _ in range(25):
            path.unlink(missing_ok=True)
            list(writers.map(lambda data: write_whole(path, data, mode=0o600), contents))
            assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


@MASKS
def test_a_file_has_the_mode_that_is_asked_for_whatever_the_umask_is(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        write_whole(tmp_path / "file", b"x", mode=0o644)
    assert mode_of(tmp_path / "file") == 0o644


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(tmp_path / "file", b"old", mode=0o600)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("signing.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "file", b"new", mode=0o600)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(("hours", "left"), [(23, True), (25, False)])
def test_what_a_writer_left_that_died_goes_after_a_day(tmp_path: Path, hours: int, left: bool) -> None:
    staged = staged_path(tmp_path)
    staged.write_bytes(b"x")
    then = time.time() - hours * 3600
    os.utime(staged, (then, then))
    write_whole(tmp_path / "file", b"x", mode=0o600)
    assert (staged in staged_files(tmp_path)) == left


def test_a_name_as_long_as_a_file_system_takes_is_written(tmp_path: Path) -> None:
    write_whole(tmp_path / ("n" * 255), b"x", mode=0o600)


@MASKS
def test_a_folder_and_those_above_it_have_the_mode_that_is_asked_for(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        make_folder(tmp_path / "a/b", mode=0o755, parents=True)
    assert (mode_of(tmp_path / "a"), mode_of(tmp_path / "a/b")) == (0o755, 0o755)


@MASKS
def test_small_files_and_logs_have_the_mode_that_is_asked_for(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        create(tmp_path / "file", b"x", mode=0o444)
        for _ in range(2):
            with open_appending(tmp_path / "log", mode=0o600) as log:
                log.write(b"x")
    assert (mode_of(tmp_path / "file"), mode_of(tmp_path / "log")) == (0o444, 0o600)
    assert (tmp_path / "log").read_bytes() == b"xx"


def test_a_folder_that_is_there_is_left_as_it_is_or_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o711)
    make_folder(tmp_path / "a", mode=0o755, exist_ok=True)
    assert mode_of(tmp_path / "a") == 0o711
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "a", mode=0o755)
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file", mode=0o755, exist_ok=True)


def test_a_small_file_replaces_nothing(tmp_path: Path) -> None:
    create(tmp_path / "file", b"old", mode=0o600)
    with pytest.raises(FileExistsError):
        create(tmp_path / "file", b"new", mode=0o600)
    assert (tmp_path / "file").read_bytes() == b"old"
