"""A content-addressed store: packages, sources and finished layers by sha256, as an OCI registry names its blobs.

Nothing in it is trusted: every blob is hashed again when it is opened, before a byte of it is used, and it is read
through the very descriptor that was hashed. The whole store is a cache and may be deleted at any time.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from images.atomic import replacing
from images.errors import InputError, StoreError

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """What is wanted: a name for messages, sha256 in hex, and size in bytes."""

    name: str
    sha256: str
    size: int


class BlobStore:
    """Blobs in a folder, which is made when first written to."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, sha256: str) -> Path:
        """Return where a blob lies, whether or not it is there yet."""
        return self._root / sha256[:2] / sha256

    def has(self, blob: Blob) -> bool:
        """Tell whether a blob of that digest and size is there. Its content is checked when it is opened."""
        try:
            return self.path(blob.sha256).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def intact(self, blob: Blob) -> bool:
        """Tell whether a blob is there and is what its digest says."""
        try:
            self.open(blob).close()
        except InputError:
            return False
        return True

    def open(self, blob: Blob) -> BinaryIO:
        """Open a blob that has been hashed through the same descriptor, at its beginning.

        Who can write to the store can still change the file in place after that. What is made of it is held against
        the lock's digests all the same: layers when they are built, archives by the engine.

        Raises:
            InputError: It is missing, or not what its digest says; the message names it.
        """
        path = self.path(blob.sha256)
        try:
            file = path.open("rb")
        except FileNotFoundError as err:
            raise InputError(f"not in the cache: {blob.name} (sha256 {blob.sha256[:12]})") from err
        except OSError as err:
            raise InputError(f"cached bytes cannot be read: {blob.name}: {err.strerror}: {path}") from err
        digest, size = hashlib.sha256(), 0
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
        if (digest.hexdigest(), size) != (blob.sha256, blob.size):
            file.close()
            raise InputError(
                f"cached bytes are not what the lock names: {blob.name}",
                hint=f"remove {path} and run the command again",
            )
        file.seek(0)
        return file

    def read(self, blob: Blob) -> bytes:
        """Return a blob's bytes, of which one copy is hashed and returned.

        Raises:
            InputError: As `open`.
        """
        with self.open(blob) as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != blob.sha256:
            raise InputError(f"cached bytes changed while they were read: {blob.name}")
        return data

    def put(self, blob: Blob, chunks: Iterable[bytes]) -> None:
        """Take a blob over, if it is what its digest says.

        Raises:
            InputError: It is not. Nothing is kept.
        """
        digest, size = hashlib.sha256(), 0

        def fill(out: BinaryIO) -> str:
            nonlocal size
            for chunk in chunks:
                size += len(chunk)
                if size > blob.size:
                    break
                digest.update(chunk)
                out.write(chunk)
            if (digest.hexdigest(), size) != (blob.sha256, blob.size):
                raise InputError(
                    f"fetched {blob.name} is not what the lock names: sha256 {blob.sha256[:12]}, {blob.size} bytes",
                    hint="the source configured on this machine serves other bytes under the same name",
                )
            return blob.sha256

        self.create(fill)

    def put_file(self, blob: Blob, source: Path) -> None:
        """Take a file over, if it is what the digest says. The file stays where it is."""
        with source.open("rb") as file:
            self.put(blob, iter(lambda: file.read(_CHUNK), b""))

    def create(self, fill: Callable[[BinaryIO], str]) -> None:
        """Write a blob whose sha256 is known only once it is written: `fill` writes it and returns that.

        Raises:
            StoreError: The disk does not take it.
        """
        found: list[str] = []

        def place() -> Path:
            target = self.path(found[0])
            target.parent.mkdir(exist_ok=True)
            return target

        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with replacing(self._root, place) as out:
                found.append(fill(out))
        except OSError as err:
            raise StoreError(f"cannot write to the cache: {err.strerror}: {self._root}") from err
