"""Fetch locked inputs: from the content-addressed store, else from the checkout and the machine's own apt and pip.

No byte is used before its sha256 is that of the lock. Where to fetch from is the machine's business: neither the lock
nor this module knows a mirror.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from images.apt import IsolatedApt
from images.errors import InputError
from images.lock import ImageLock, LockedInput
from images.store import Blob, BlobStore
from images.wheelhouse import pip_download

CHECKOUT = Path(__file__).parents[1]
SOURCE_FOLDERS = ("images/worker", "tools")
_CHUNK = 1 << 20


def blob_of(item: LockedInput) -> Blob:
    """Return an input as the store knows it."""
    return Blob(name=str(item), sha256=item.sha256, size=item.size)


def missing_inputs(items: Sequence[LockedInput], store: BlobStore) -> list[LockedInput]:
    """Return the inputs that the store lacks."""
    return [i for i in items if not store.has(blob_of(i))]


def fetch_inputs(lock: ImageLock, items: Sequence[LockedInput], store: BlobStore, *, checkout: Path = CHECKOUT) -> int:
    """Fetch what the store lacks.

    Args:
        lock: Says for which Python and architecture.
        items: The inputs that are wanted.
        store: Where they go.
        checkout: Where sources are taken from.

    Returns:
        How many inputs were fetched.

    Raises:
        InputError: One is not what the lock names.
        SourceError: One could not be had.
    """
    missing = missing_inputs(items, store)
    for item in missing:
        if item.kind == "source":
            _take_source(item, checkout, store)
    debs = [i for i in missing if i.kind == "deb"]
    wheels = [i for i in missing if i.kind == "wheel"]
    recipe = lock.recipe
    with tempfile.TemporaryDirectory(prefix="executor-fetch-") as scratch:
        folder = Path(scratch)
        if debs:
            with IsolatedApt(architecture=recipe.architecture) as apt:
                apt.download([(i.name, i.version) for i in debs], folder)
        if wheels:
            pip_download(
                [f"{i.name}==={i.version}" for i in wheels],
                folder,
                python=recipe.python,
                architecture=recipe.architecture,
                glibc=recipe.glibc,
                constraints=None,
            )
        _take_over([*debs, *wheels], folder, store)
    return len(missing)


def read_sources(checkout: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every file of this project that goes into the worker layer, sorted by path.

    Raises:
        InputError: They are not there: an installed distribution does not carry them.
    """
    for folder in SOURCE_FOLDERS:
        files = sorted(p for p in (checkout / folder).rglob("*.py") if "__pycache__" not in p.parts)
        if not files:
            raise InputError(f"no sources of the worker layer in {folder}", hint="this needs a checkout of the project")
        for path in files:
            yield path.relative_to(checkout).as_posix(), path.read_bytes()


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _take_source(item: LockedInput, checkout: Path, store: BlobStore) -> None:
    path = checkout / item.name
    if not path.is_file():
        raise InputError(
            f"source is not in this checkout: {item.name}",
            hint="check out the revision that the lock belongs to, or: executor image pull --inputs",
        )
    if sha256_of_file(path) != item.sha256:
        raise InputError(
            f"source differs from the lock: {item.name}",
            hint="after a wanted change, write the lock anew: executor image lock NAME",
        )
    store.put_file(blob_of(item), path)


def _take_over(items: Sequence[LockedInput], folder: Path, store: BlobStore) -> None:
    """Put fetched files into the store by what they are, whatever they are called."""
    found = {sha256_of_file(path): path for path in sorted(folder.iterdir())}
    for item in items:
        if item.sha256 not in found:
            raise InputError(
                f"fetched {item} is not what the lock names: sha256 {item.sha256[:12]}",
                hint="the sources configured on this machine serve other bytes under the same version",
            )
        store.put_file(blob_of(item), found[item.sha256])
