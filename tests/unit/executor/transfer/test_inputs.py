"""Inputs and code: only the named bytes get in, and code is what was read."""

import hashlib
import os
from pathlib import Path

import pytest

from executor.errors import Cancelled, HostError, RequestError
from executor.transfer import inputs
from executor.transfer.inputs import InputStore, copy_input, lay_out_code, locate, outside_of, read_code


def take(
    folder: Path,
    source: Path,
    *,
    sha256: str,
    name: str,
    cancelled: bool = False,
    bytes_max: int = 1 << 20,
    native: bool = False,
) -> Path:
    place = folder / f"copy of {source.name}"
    place.unlink(missing_ok=True)
    size = copy_input(
        source, place, sha256=sha256, name=name, bytes_max=bytes_max, native=native, cancelled=lambda: cancelled
    )
    assert size == place.stat().st_size
    return place


def test_an_input_with_the_named_digest_is_taken_read_only(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"table")
    digest = hashlib.sha256(b"table").hexdigest()
    copy = take(tmp_path, tmp_path / "x", sha256=digest, name="x")
    assert copy.read_bytes() == b"table"
    assert copy.stat().st_mode & 0o777 == 0o444
    assert copy.stat().st_nlink == 1, "a job would see who else uses it"


def test_an_input_is_kept_by_its_digest_however_often(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"table")
    digest, store = hashlib.sha256(b"table").hexdigest(), InputStore(tmp_path / "cas")
    for _ in range(2):
        store.keep(take(tmp_path, tmp_path / "x", sha256=digest, name="x"), digest)
        assert store.path_of(digest).read_bytes() == b"table"
        assert store.path_of(digest).stat().st_mode & 0o777 == 0o444
    with pytest.raises(HostError, match="cannot keep an input"):
        store.keep(tmp_path / "missing", digest)


def test_an_input_with_another_digest_is_refused_and_not_kept(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"table")
    with pytest.raises(RequestError, match="the job names"):
        take(tmp_path, tmp_path / "x", sha256="0" * 64, name="x")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["x"]


def test_an_input_that_is_missing_or_no_file_is_the_callers_fault(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(RequestError):
            take(tmp_path, path, sha256="0" * 64, name="x")


def test_taking_an_input_can_be_cancelled(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"table")
    with pytest.raises(Cancelled):
        take(tmp_path, tmp_path / "x", sha256="0" * 64, name="x", cancelled=True)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["x"]


def test_the_executors_own_state_is_no_input(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "link").symlink_to(home)
    assert outside_of(tmp_path / "homely", home, what="input") == tmp_path / "homely"
    for path in (home / "trust/ca.key", tmp_path / "link/trust", home, tmp_path / "x/../home/y"):
        with pytest.raises(RequestError, match="own state directory"):
            outside_of(path, home, what="input")


def test_an_input_over_what_is_left_of_the_limit_is_refused(tmp_path: Path) -> None:
    digests = {n: hashlib.sha256(bytes(n)).hexdigest() for n in (4, 5)}
    for size in (4, 5):
        (tmp_path / str(size)).write_bytes(bytes(size))
    take(tmp_path, tmp_path / "4", sha256=digests[4], name="x", bytes_max=4)
    with pytest.raises(RequestError, match="larger than the 4 bytes left"):
        take(tmp_path, tmp_path / "5", sha256=digests[5], name="x", bytes_max=4)


def test_a_native_library_is_refused_as_input_and_as_code(tmp_path: Path) -> None:
    for name, data in (("x.so", b"\x7fELF\x02\x01"), ("y.so", b"\x7fEL")):
        (tmp_path / name).write_bytes(data)
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.glob("*.so")}
    with pytest.raises(RequestError, match="native library"):
        take(tmp_path, tmp_path / "x.so", sha256=digests["x.so"], name="x")
    take(tmp_path, tmp_path / "y.so", sha256=digests["y.so"], name="y")
    take(tmp_path, tmp_path / "x.so", sha256=digests["x.so"], name="x", native=True)
    with pytest.raises(RequestError, match="the job names"):
        take(tmp_path, tmp_path / "x.so", sha256=digests["y.so"], name="x", native=True)
    with pytest.raises(RequestError, match=r"code file 'x.so' is a native library"):
        read_code(tmp_path / "x.so", None)
    assert read_code(tmp_path / "y.so", None).entry == "y.so"


def test_paths_are_relative_to_the_job_file_and_other_schemes_are_refused(tmp_path: Path) -> None:
    assert locate("data/x", tmp_path) == tmp_path / "data/x"
    assert locate("file:///a%20b", tmp_path) == Path("/a b")
    for uri in ("s3://bucket/x", "http://127.0.0.1/x", "file://elsewhere/x"):
        with pytest.raises(RequestError, match="cannot fetch"):
            locate(uri, tmp_path)


def test_a_code_tree_has_one_digest_whatever_the_order_on_disk(tmp_path: Path) -> None:
    for folder, order in (("one", "ab"), ("two", "ba")):
        for name in order:
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.py").write_text(name)
    one, two = (read_code(tmp_path / f, "a.py") for f in ("one", "two"))
    assert one == two
    (tmp_path / "two/b.py").write_text("c")
    assert read_code(tmp_path / "two", "a.py").sha256 != one.sha256


def test_renaming_a_file_changes_the_tree_digest(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    (tmp_path / "b.py").write_text("")
    before = read_code(tmp_path, "a.py").sha256
    (tmp_path / "b.py").rename(tmp_path / "c.py")
    assert read_code(tmp_path, "a.py").sha256 != before


def test_code_with_a_link_or_without_its_entry_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    with pytest.raises(RequestError, match=r"no file 'b\.py'"):
        read_code(tmp_path, "b.py")
    with pytest.raises(RequestError, match="is a directory"):
        read_code(tmp_path, None)
    (tmp_path / "b.py").symlink_to("/etc/passwd")
    with pytest.raises(RequestError, match="link or a special file"):
        read_code(tmp_path, "a.py")


def test_code_over_a_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("1234")
    (tmp_path / "b.py").write_text("1234")
    monkeypatch.setattr(inputs, "_CODE_BYTES_MAX", 8)
    read_code(tmp_path, "a.py")
    monkeypatch.setattr(inputs, "_CODE_BYTES_MAX", 7)
    with pytest.raises(RequestError, match="larger than 7"):
        read_code(tmp_path, "a.py")
    monkeypatch.setattr(inputs, "_CODE_FILES_MAX", 1)
    with pytest.raises(RequestError, match="more than 1 files"):
        read_code(tmp_path, "a.py")


def test_code_is_laid_out_for_every_user_to_read(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    (source / "pkg").mkdir(parents=True)
    (source / "pkg/a.py").write_text("x")
    target.mkdir(mode=0o700)
    lay_out_code(read_code(source, "pkg/a.py"), target)
    assert (target / "pkg/a.py").stat().st_mode & 0o777 == 0o444
    assert (target / "pkg").stat().st_mode & 0o777 == 0o755
