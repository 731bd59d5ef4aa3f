"""Quarantine: names, counts and sizes hold before a byte is written, and every lie is caught."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from executor.errors import JobError
from executor.transfer.quarantine import PIECE_BYTES_MIN, LimitExceededError, Quarantine


def quarantine(folder: Path, *, bytes_max: int = 10, file_bytes_max: int = 10, files_max: int = 2) -> Quarantine:
    return Quarantine(
        folder,
        declared={"a": "data", "b": "data", "c": "data"},
        bytes_max=bytes_max,
        file_bytes_max=file_bytes_max,
        files_max=files_max,
    )


def send(target: Quarantine, name: Any, data: bytes, **change: Any) -> None:
    target.begin({"name": name, "role": "data", "size": len(data)} | change)
    target.write(data)
    target.end({"sha256": change.get("sha256", hashlib.sha256(data).hexdigest())})


def test_an_output_is_kept_under_a_number_with_the_digest_of_its_bytes(tmp_path: Path) -> None:
    target = quarantine(tmp_path)
    send(target, "a", b"0123456789")
    (artifact,) = target.artifacts
    assert artifact.path == tmp_path / "0000"
    assert artifact.path.read_bytes() == b"0123456789"
    assert artifact.sha256 == hashlib.sha256(b"0123456789").hexdigest()
    assert artifact.path.stat().st_mode & 0o777 == 0o444


def test_each_output_up_to_its_own_limit_passes_and_a_larger_one_is_refused(tmp_path: Path) -> None:
    target = quarantine(tmp_path, file_bytes_max=4)
    send(target, "a", b"0123")
    with pytest.raises(LimitExceededError) as refused:
        target.begin({"name": "b", "role": "data", "size": 5})
    assert refused.value.limit == "output_file_bytes"


def test_bytes_up_to_the_limit_pass_and_one_more_is_refused_before_it_is_written(tmp_path: Path) -> None:
    target = quarantine(tmp_path)
    send(target, "a", b"01234")
    with pytest.raises(LimitExceededError) as refused:
        target.begin({"name": "b", "role": "data", "size": 6})
    assert refused.value.limit == "output_bytes"
    send(target, "b", b"56789")


def test_one_file_more_than_allowed_is_refused(tmp_path: Path) -> None:
    target = quarantine(tmp_path)
    send(target, "a", b"")
    send(target, "b", b"")
    with pytest.raises(LimitExceededError) as refused:
        target.begin({"name": "c", "role": "data", "size": 0})
    assert refused.value.limit == "output_files"


@pytest.mark.parametrize("name", ["d", "../a", "/a", "a/../a", "a\0", None, 3, ["a"], ""])
def test_a_name_that_is_not_declared_is_refused(tmp_path: Path, name: object) -> None:
    with pytest.raises(JobError, match="not declared"):
        quarantine(tmp_path).begin({"name": name, "role": "data", "size": 0})


@pytest.mark.parametrize("change", [{"role": "model"}, {"size": -1}, {"size": True}, {"size": "1"}, {"size": None}])
def test_a_begin_that_does_not_fit_the_declaration_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(JobError):
        quarantine(tmp_path).begin({"name": "a", "role": "data", "size": 1} | change)


def test_the_same_output_twice_is_refused(tmp_path: Path) -> None:
    target = quarantine(tmp_path)
    send(target, "a", b"1")
    with pytest.raises(JobError, match="twice"):
        target.begin({"name": "a", "role": "data", "size": 1})


def test_more_bytes_than_announced_are_refused(tmp_path: Path) -> None:
    target = quarantine(tmp_path)
    target.begin({"name": "a", "role": "data", "size": 2})
    with pytest.raises(JobError, match="longer"):
        target.write(b"123")


def test_fewer_bytes_than_announced_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="announced"):
        send(quarantine(tmp_path), "a", b"12", size=3)


def test_another_digest_than_claimed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="digest"):
        send(quarantine(tmp_path), "a", b"12", sha256="0" * 64)


def test_frames_out_of_order_are_refused(tmp_path: Path) -> None:
    target = quarantine(tmp_path)
    with pytest.raises(JobError, match="outside"):
        target.write(b"1")
    with pytest.raises(JobError, match="had not begun"):
        target.end({})
    target.begin({"name": "a", "role": "data", "size": 1})
    with pytest.raises(JobError, match="inside another"):
        target.begin({"name": "b", "role": "data", "size": 1})


def test_an_output_that_never_ended_leaves_no_file(tmp_path: Path) -> None:
    target = quarantine(tmp_path)
    target.begin({"name": "a", "role": "data", "size": 5})
    target.write(b"12")
    target.close()
    assert list(tmp_path.iterdir()) == []
    assert target.artifacts == []


@pytest.mark.parametrize("pieces", [(b"\x7fELF",), (b"\x7fELF" + bytes(PIECE_BYTES_MIN), b"rest")])
def test_a_native_library_is_not_taken(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    room, data = 1 << 20, b"".join(pieces)
    target = quarantine(tmp_path, bytes_max=room, file_bytes_max=room)
    target.begin({"name": "a", "role": "data", "size": len(data)})
    for piece in pieces:
        target.write(piece)
    with pytest.raises(JobError, match="native library"):
        target.end({"sha256": hashlib.sha256(data).hexdigest()})
    assert target.artifacts == []


@pytest.mark.parametrize("size", [1, PIECE_BYTES_MIN - 1])
def test_a_frame_that_is_too_small_may_only_be_the_last(tmp_path: Path, size: int) -> None:
    room = 1 << 20
    target = quarantine(tmp_path, bytes_max=room, file_bytes_max=room)
    target.begin({"name": "a", "role": "data", "size": room})
    for _ in range(3):
        target.write(bytes(PIECE_BYTES_MIN))
    target.write(bytes(size))
    with pytest.raises(JobError, match=f"in a frame of {size} bytes: 65536 is the least"):
        target.write(bytes(1))


def test_what_only_begins_like_one_is_taken(tmp_path: Path) -> None:
    target = quarantine(tmp_path)
    send(target, "a", b"\x7fEL")
    send(target, "b", b"x\x7fELF")
    assert [a.size for a in target.artifacts] == [3, 5]
