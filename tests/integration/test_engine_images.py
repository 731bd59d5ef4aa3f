"""Images in the real engine: it refuses altered archives, takes thin ones, and its own disk is not believed."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executor.errors import HostError
from executor.sandbox.docker import DockerEngine
from executor.sandbox.engine_images import find_image, load_image
from images.build import blob_of_layer, build_layers
from images.lock import ImageLock, load_lock
from tests.integration.conftest import Host, containers, raw_engine
from tests.integration.workshop import call, complete_home, copy_inputs, copy_layers, copy_project
from tests.unit.images.packages import PACKAGES, SmallImage, deb, silence


@pytest.fixture
def small(home: Path, tmp_path: Path) -> SmallImage:
    """A small image that no engine has seen before, with its layers in the state directory."""
    salt = os.urandom(16)
    packages = {**PACKAGES, ("deb", "base"): deb({"./usr/bin/python3.11": b"py", "./etc/os": salt * 1000})}
    image = SmallImage(home / "cas", packages)
    build_layers(image.lock(), image.builder(), image.store, say=silence)
    (tmp_path / "small.lock.json").write_bytes(image.lock().raw)
    return image


@pytest.fixture
def engine() -> Iterator[DockerEngine]:
    """The engine, which a test leaves with no image that it did not have before."""
    found = DockerEngine()
    before = {i["Id"] for i in raw_engine().images()}
    yield found
    for image in raw_engine().images():
        if image["Id"] not in before:
            raw_engine().remove_image(image["Id"], force=True)


def remove(engine: DockerEngine, lock: ImageLock) -> None:
    if find_image(engine, lock.image) is not None:
        raw_engine().remove_image(lock.expect.image_id, force=True)


def archive(small: SmallImage) -> bytes:
    return b"".join(small.lock().image.archive(lambda y: small.store.open(blob_of_layer(y))))


@pytest.mark.parametrize("part", ["layer", "config"])
def test_the_engine_refuses_an_archive_of_which_a_byte_changed(
    engine: DockerEngine, small: SmallImage, part: str
) -> None:
    lock, data = small.lock(), bytearray(archive(small))
    marker = b"etc/os\0" if part == "layer" else b'"User":"65532:65532"'
    position = data.index(marker) + 512 + 8 if part == "layer" else data.index(marker) + 10
    data[position] ^= 1
    with contextlib.suppress(HostError):
        engine.load_image(iter([bytes(data)]))
        assert part == "config", "a layer that is not what its diff ID says must not be taken"
    assert find_image(engine, lock.image) is None, "under the locked digest there is only the locked image"
    engine.load_image(iter([archive(small)]))
    assert find_image(engine, lock.image) == lock.expect.image_id


def test_the_engine_is_asked_first_and_sent_no_layer_that_it_has(
    host: Host, engine: DockerEngine, small: SmallImage, tmp_path: Path
) -> None:
    path = str(tmp_path / "small.lock.json")
    first = host.call("image", "load", path, "--json")
    assert (first.code, first.json["layers_sent"]) == (0, 4), first.stderr
    assert host.call("image", "load", path, "--json").json["layers_sent"] == 0
    edited = SmallImage(small.folder, {**PACKAGES, ("source", "images/worker/job.txt"): b"edited"})
    edited.inputs = (*small.inputs[:-1], edited.inputs[-1])
    lock = edited.lock()
    build_layers(lock, edited.builder(), edited.store, say=silence)
    try:
        assert load_image(engine, lock.image, lambda y: edited.store.open(blob_of_layer(y))) == 1
        assert find_image(engine, lock.image) == lock.expect.image_id
    finally:
        remove(engine, lock)


def layer_folder(engine: DockerEngine, image_id: str) -> Path:
    """Where the engine keeps the lowest layer of an image. Reading and writing it takes root."""
    data = raw_engine().inspect_image(image_id)["GraphDriver"]["Data"]
    return Path((data.get("LowerDir") or data["UpperDir"]).split(":")[-1])


def write(name: str, data: bytes, mode: int = 0o644) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(data)
        (folder / name).chmod(mode)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: None, ""),
        (write("etc/os", b"altered"), "etc/os: content differs"),
        (write("usr/bin/sh", b"#!", 0o755), "usr/bin/sh: added"),
        (write("etc/ld.so.preload", b"/tmp/x.so"), "etc/ld.so.preload: added"),
        (lambda folder: (folder / "usr/bin/python3.11").chmod(0o4755), "usr/bin/python3.11: mode or owner differs"),
        (lambda folder: os.chown(folder / "etc/passwd", 65532, 65532), "etc/passwd: mode or owner differs"),
        (lambda folder: (folder / "etc/group").unlink(), "etc/group: removed"),
        (
            lambda folder: os.setxattr(
                folder / "usr/bin/python3.11", "security.capability", bytes.fromhex("0100000200200000" + "00" * 12)
            ),
            "usr/bin/python3.11: has extended attributes",
        ),
    ],
    ids=["nothing", "content", "added shell", "preload", "setuid", "owner", "removed", "capability"],
)
def test_whatever_is_altered_in_the_engines_store_is_found(
    host: Host,
    engine: DockerEngine,
    small: SmallImage,
    tmp_path: Path,
    change: Callable[[Path], object],
    words: str,
) -> None:
    """`docker save`, which checks sums, would find the first of these and none of the others."""
    assert os.getuid() == 0, "altering the engine's store takes root"
    path = str(tmp_path / "small.lock.json")
    assert host.call("image", "load", path).code == 0
    change(layer_folder(engine, small.lock().expect.image_id))
    done = host.call("image", "verify", path, "--daemon")
    if words:
        assert (done.code, done.stdout.splitlines()[1:]) == (22, [f"ENGINE ALTERED {words}"]), done.stderr
    else:
        assert (done.code, done.stdout.splitlines()[1][:13]) == (0, "ENGINE INTACT"), done.stderr
    assert containers() == "", "the container that was looked at is gone"


def test_one_altered_file_of_the_real_image_is_found_in_the_engines_store(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert os.getuid() == 0, "altering the engine's store takes root"
    monkeypatch.setenv("EXECUTOR_HOME", str(complete_home().root))
    engine, lock = DockerEngine(), load_lock("cpu")
    path = layer_folder(engine, lock.expect.image_id) / "usr/lib/python3.11/this.py"
    original = path.read_bytes()
    try:
        path.write_bytes(original[:-2] + b"#\n")
        done = host.call("image", "verify", "cpu", "--daemon", "--json")
    finally:
        path.write_bytes(original)
    assert done.code == 22, done.stderr
    assert done.json["status"] == "altered"
    assert done.json["altered_in_engine"] == [{"path": "usr/lib/python3.11/this.py", "alteration": "content differs"}]


def test_an_audit_of_an_image_that_the_engine_does_not_have_is_refused(
    host: Host, small: SmallImage, tmp_path: Path
) -> None:
    done = host.call("image", "verify", str(tmp_path / "small.lock.json"), "--daemon", "--json")
    assert done.code == 22
    assert "does not have image" in done.json["error"]["message"]


def test_a_change_of_the_worker_alone_makes_and_sends_the_last_layer_alone(tmp_path: Path) -> None:
    """Locked, built and loaded from a copy of the project, with the real packages."""
    project, home = copy_project(tmp_path / "project"), tmp_path / "home"
    lock = load_lock("cpu")
    copy_inputs(lock, home)
    copy_layers(lock, home)
    shutil.copytree(complete_home().bytecode, home / "cas/bytecode")
    env = {"EXECUTOR_HOME": str(home), "PATH": os.environ["PATH"]}
    assert call(["image", "lock", "cpu"], project=project, env=env).stdout.startswith("nothing changed")
    with (project / "images/worker/job.py").open("a") as file:
        file.write("# edited\n")
    relocked = call(["image", "lock", "cpu"], project=project, env=env)
    assert relocked.code == 0, relocked.stderr
    sources = sum(item.name.endswith(".py") for item in lock.of_kind("source"))
    assert relocked.stderr.splitlines() == ["building layer worker", f"compiling {sources} Python sources"]
    changes = relocked.stdout.splitlines()
    assert changes[0] == "~ source images/worker/job.py (+9 B)"
    assert changes[1:5] == ["layer os kept", "layer torch kept", "layer wheels kept", "layer worker CHANGED"]
    engine = DockerEngine()
    loaded = call(["image", "load", "cpu", "--json"], project=project, env=env)
    try:
        assert (loaded.code, json.loads(loaded.stdout)["layers_sent"]) == (0, 1), loaded.stderr
        image_id = json.loads(loaded.stdout)["image_id"]
        assert image_id != lock.expect.image_id
        assert engine.image(image_id) is not None
    finally:
        raw_engine().remove_image(json.loads(loaded.stdout)["image_id"], force=True)
