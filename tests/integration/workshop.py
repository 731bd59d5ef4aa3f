"""Image commands in places of their own: a copy of the project, a copy of the inputs, another user, another Python."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from executor.state.home import Home
from images.build import blob_of_layer
from images.inputs import blob_of, fetch_inputs
from images.lock import ImageLock, load_lock
from images.store import BlobStore
from tests.integration.conftest import Finished, made_home

ROOT = Path(__file__).parents[2]
PACKAGES = ("executor", "images", "policy", "signing", "tools")
NOBODY = 65534
_START = "import sys; sys.path.insert(0, {root!r}); from executor.cli.main import main; sys.exit(main(sys.argv[1:]))"


def copy_project(folder: Path) -> Path:
    """Copy the packages, so that a test may change them."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@cache
def complete_home() -> Home:
    """Return the state directory that `make image` used, with all inputs and layers of the image in it.

    Where the engine had the image already, `make image` built nothing.
    """
    home, lock = made_home(), load_lock("cpu")
    store = BlobStore(home.blobs)
    fetch_inputs(lock, lock.inputs, store)
    done = call(["image", "build", "cpu"], env={"EXECUTOR_HOME": str(home.root), "PATH": os.environ["PATH"]})
    assert done.code == 0, done.stderr
    return home


def copy_inputs(lock: ImageLock, home: Path) -> None:
    """Copy an image's inputs, and nothing else, out of the state directory that `make image` used."""
    source = complete_home()
    for item in lock.inputs:
        target = home / "cas/blobs" / item.sha256[:2] / item.sha256
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.blobs / item.sha256[:2] / item.sha256, target)
        assert target.stat().st_size == blob_of(item).size


def copy_layers(lock: ImageLock, home: Path) -> None:
    """Share an image's layers by hard link: they are large and never written to."""
    source = complete_home()
    for layer in lock.expect.layers:
        path = f"{layer.sha256[:2]}/{blob_of_layer(layer).sha256}"
        target = home / "cas/blobs" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source.blobs / path, target)


def call(
    arguments: Sequence[str],
    *,
    project: Path = ROOT,
    python: str = sys.executable,
    env: Mapping[str, str],
    user: int | None = None,
    umask: int = 0o022,
) -> Finished:
    """Run the command out of a folder, with nothing of this environment but what is given."""
    done = subprocess.run(
        [python, "-I", "-c", _START.format(root=str(project)), *arguments],
        capture_output=True,
        text=True,
        env=dict(env),
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        umask=umask,
        cwd="/",
        timeout=1800,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def interpreters() -> Iterator[tuple[int, str]]:
    """Yield minor version and path of every CPython from 3.11 on that this machine has."""
    folders = [*map(Path, os.environ["PATH"].split(":")), *sorted(Path.home().glob(".pyenv/versions/*/bin"))]
    for minor in range(11, 20):
        for folder in folders:
            if os.access(folder / f"python3.{minor}", os.X_OK):
                yield minor, str(folder / f"python3.{minor}")


def works(python: str, user: int | None) -> bool:
    """Tell whether a user can start an interpreter."""
    try:
        done = subprocess.run(
            [python, "-I", "-c", "import lzma, ssl"], capture_output=True, user=user, group=user, env={}, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
