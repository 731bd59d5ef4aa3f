"""Rebuilding the real image: the same bytes by anybody, anywhere, from the lock alone."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.bytecode import ImageInterpreter
from images.errors import SourceError
from images.layers import compiler_entries
from images.lock import load_lock
from images.store import BlobStore
from images.tar import Entry, Kind
from images.wheelhouse import pip_download
from tests.integration.conftest import Host
from tests.integration.workshop import (
    NOBODY,
    call,
    complete_home,
    copy_inputs,
    copy_layers,
    copy_project,
    interpreters,
    sha256_of,
    works,
)

LOCK = load_lock("cpu")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that an ordinary user can reach, unlike those of the test runner."""
    folder = Path(tempfile.mkdtemp(prefix="executor-rebuild-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def in_made_home(monkeypatch: pytest.MonkeyPatch) -> Path:
    home = complete_home().root
    monkeypatch.setenv("EXECUTOR_HOME", str(home))
    return home


def files_of(home: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in (home / "cas").rglob("*") if p.is_file()}


def test_verifying_gives_every_digest_of_the_lock_and_writes_nothing(host: Host, in_made_home: Path) -> None:
    before = files_of(in_made_home)
    done = host.call("image", "verify", "cpu", "--json")
    assert done.code == 0, done.stderr
    assert (done.json["status"], done.json["differences"]) == ("reproduced", [])
    assert done.json["layers"] == {y.name: f"sha256:{y.sha256}" for y in LOCK.expect.layers}
    assert files_of(in_made_home) == before


def test_locking_again_writes_the_very_lock(host: Host, place: Path, in_made_home: Path) -> None:
    """No package is asked for, and the lock is the same to the byte."""
    project = copy_project(place)
    env = {"EXECUTOR_HOME": str(in_made_home), "PATH": "/nonexistent"}
    done = call(["image", "lock", "cpu"], project=project, env=env)
    assert done.code == 0, done.stderr
    assert done.stdout == f"nothing changed\n{LOCK.expect.image_id}\n"
    assert (project / "images/cpu.lock.json").read_bytes() == LOCK.raw


@pytest.fixture(scope="module")
def archive_sha256() -> Iterator[str]:
    """Digest of the archive as this user, this Python and this locale make it."""
    with tempfile.TemporaryDirectory(prefix="executor-archive-") as folder:
        env = {"EXECUTOR_HOME": str(complete_home().root), "PATH": os.environ["PATH"]}
        done = call(["image", "build", "cpu", "--output", f"{folder}/cpu.tar"], env=env)
        assert done.code == 0, done.stderr
        yield sha256_of(Path(folder) / "cpu.tar")


def rebuild(place: Path, *, python: str, user: int | None) -> str:
    """Build from inputs alone, in another folder, umask, time zone and locale; return the archive's digest."""
    project, home = copy_project(place / "project"), place / "home"
    copy_inputs(LOCK, home)
    if user is not None:
        for path in (home, *home.rglob("*")):
            os.chown(path, user, user)
    env = {
        "EXECUTOR_HOME": str(home),
        "HOME": str(home),
        "TZ": "Asia/Tokyo",
        "LC_ALL": "tr_TR.UTF-8",
        "PATH": "/usr/bin",
    }
    arguments = ["image", "build", "cpu", "--output", str(home / "cpu.tar")]
    done = call(arguments, project=project, python=python, env=env, user=user, umask=0o077)
    assert done.code == 0, done.stderr
    assert "compiling" in done.stderr, "nothing of an earlier build was there to be taken"
    return sha256_of(home / "cpu.tar")


def test_an_ordinary_user_on_other_terms_makes_the_same_archive(place: Path, archive_sha256: str) -> None:
    user = NOBODY if os.getuid() == 0 else None
    usable = [p for _, p in interpreters() if works(p, user)]
    assert usable, "an ordinary user can start no Python 3.11 or later here"
    assert rebuild(place, python=usable[-1], user=user) == archive_sha256


def test_another_python_makes_the_same_archive(place: Path, archive_sha256: str) -> None:
    others = [p for minor, p in interpreters() if minor != sys.version_info.minor and works(p, None)]
    if not others:
        pytest.skip("this machine has one minor version of Python from 3.11 on; install another to try this")
    assert rebuild(place, python=others[-1], user=None) == archive_sha256


def test_an_edited_worker_is_named_and_never_slips_into_the_locked_image(place: Path) -> None:
    project, home = copy_project(place / "project"), place / "home"
    copy_layers(LOCK, home)
    with (project / "images/worker/job.py").open("a") as file:
        file.write("# edited\n")
    env = {"EXECUTOR_HOME": str(home), "PATH": os.environ["PATH"]}
    done = call(["image", "build", "cpu"], project=project, env=env)
    assert (done.code, done.stdout) == (0, f"{LOCK.expect.image_id}\n")
    assert "images/worker/job.py is not what the lock pins" in done.stderr
    fresh = call(["image", "verify", "cpu"], project=project, env=env)
    assert fresh.code == 22
    assert "not in the cache" in fresh.stderr


def test_one_flipped_byte_in_a_cached_input_of_the_real_image_is_refused_by_name(place: Path) -> None:
    home = place / "home"
    copy_inputs(LOCK, home)
    item = next(i for i in LOCK.inputs if i.name == "libc6")
    path = home / "cas/blobs" / item.sha256[:2] / item.sha256
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    env = {"EXECUTOR_HOME": str(home), "PATH": os.environ["PATH"]}
    for action in ("build", "verify"):
        done = call(["image", action, "cpu"], env=env)
        assert done.code == 22
        assert f"error: cached bytes are not what the lock names: deb libc6 {item.version}" in done.stderr


def test_nothing_is_imported_from_the_folder_that_the_builder_stands_in(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `struct.py` or a `pip` there would run with the builder's rights, and would write the image's bytecode."""
    trap = f"open({str(place / 'sprung')!r}, 'w')\nraise SystemExit('sprung')\n"
    for name in ("struct.py", "importlib.py", "pip.py"):
        (place / name).write_text(trap)
    monkeypatch.chdir(place)
    store = BlobStore(complete_home().blobs)
    files = compiler_entries(LOCK.inputs, recipe=LOCK.recipe, store=store)
    source = Entry(path="a/x.py", kind=Kind.FILE, data=b"x = 1\n")
    with ImageInterpreter(files, version="3.11", architecture="amd64") as interpreter:
        assert list(interpreter.compile([source])) == ["a/__pycache__/x.cpython-311.pyc"]
    with pytest.raises(SourceError):
        pip_download(["-r"], place, python="3.11", architecture="amd64", glibc="2.36", constraints=None)
    assert not (place / "sprung").exists()
    subprocess.run([sys.executable, "-c", "import pip"], check=False, stderr=subprocess.DEVNULL)
    assert (place / "sprung").exists(), "the trap works where nothing is isolated"
