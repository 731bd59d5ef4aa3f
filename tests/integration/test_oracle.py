"""An independent tool makes a root of the same Debian packages: its files and ours must be the same.

Run by `make oracle`. The packages are the locked ones, served to mmdebstrap out of the cache, so that it does not
matter what mirrors have today.
"""

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from images.build import blob_of_layer
from images.deb import merged, read_deb
from images.inputs import blob_of
from images.lock import ImageLock, load_lock
from images.store import BlobStore
from tests.integration.workshop import complete_home

LOCK = load_lock("cpu")
OURS = ("var/lib/dpkg/status.d/",)
# What mmdebstrap adds: state of tools that our image does not have, devices, and files of the machine that it runs on.
THEIRS = (
    "var/lib/dpkg/",
    "var/cache/apt/",
    "var/lib/apt/",
    "etc/apt/",
    "dev/",
    "etc/fstab",
    "etc/hostname",
    "etc/resolv.conf",
)


def serve(lock: ImageLock, store: BlobStore, folder: Path) -> None:
    """Lay the locked packages out as a repository without a signature."""
    stanzas = []
    for item in lock.of_kind("deb"):
        data = store.read(blob_of(item))
        (folder / item.filename.replace("%3a", "-")).write_bytes(data)
        control = read_deb(data, name=item.name).control.rstrip("\n")
        name = item.filename.replace("%3a", "-")
        stanzas.append(f"{control}\nFilename: ./{name}\nSize: {item.size}\nSHA256: {item.sha256}\n")
    (folder / "Packages").write_text("\n".join(stanzas))


def contents(data: bytes) -> dict[str, tuple[str, str]]:
    """Return kind and sha256 or link target of every file of a tar archive, by usr-merged path."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            name = member.name.removeprefix("./").strip("/")
            path = merged(name) if "/" in name else name
            if member.issym():
                found[path] = ("link", member.linkname)
            elif member.isfile() or member.islnk():
                content = archive.extractfile(member)
                assert content is not None
                found[path] = ("file", hashlib.sha256(content.read()).hexdigest())
    return found


@pytest.mark.oracle
def test_mmdebstrap_extracts_the_very_files_of_our_operating_system_layer(tmp_path: Path) -> None:
    store = BlobStore(complete_home().blobs)
    repository, root = tmp_path / "repository", tmp_path / "root.tar"
    repository.mkdir()
    serve(LOCK, store, repository)
    names = ",".join(i.name for i in LOCK.of_kind("deb"))
    source = f"deb [trusted=yes] copy:{repository} ./"
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={names}", "bookworm", str(root), source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    theirs = contents(root.read_bytes())
    ours = contents(store.read(blob_of_layer(LOCK.expect.layers[0])))

    from_packages = {p: c for p, c in ours.items() if p in theirs}
    assert {p for p, c in from_packages.items() if theirs[p] != c} == set()
    assert len(from_packages) > 1000
    extra = {p for p in ours if p not in theirs and not p.endswith(".pyc") and not p.startswith(OURS)}
    assert extra == {*(path for path, _ in LOCK.recipe.texts), "bin", "sbin", "lib", "lib64"} - set(theirs)
    left_out = {p for p in theirs if p not in ours and LOCK.recipe.keeps(p)}
    assert {p for p in left_out if not p.startswith(THEIRS)} == set()
