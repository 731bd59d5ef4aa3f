"""Fetch locked inputs: from the content-addressed cache, else through the machine's own apt and pip configuration.

No byte is used before its sha256 is that of the lock. Where to fetch from is the machine's business: neither the lock
nor this module knows a mirror.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from images.apt import IsolatedApt
from images.definition import Definition
from images.errors import InputError
from images.lock import LockedInput

_FETCH_SECONDS_MAX = 900


class InputStore:
    """Locked inputs on disk, by digest. Everything read from it is checked again."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, item: LockedInput) -> Path:
        """Return where an input lies, whether or not it is there yet."""
        return self._root / item.sha256[:2] / item.sha256

    def read(self, item: LockedInput) -> bytes:
        """Return the bytes of an input.

        Raises:
            InputError: It is missing, or not what the lock names.
        """
        try:
            data = self.path(item).read_bytes()
        except FileNotFoundError as err:
            raise InputError(f"locked input is missing: {item.filename}") from err
        if len(data) != item.size or hashlib.sha256(data).hexdigest() != item.sha256:
            raise InputError(
                f"cached input differs from the lock: {item.kind} {item.name} {item.version}",
                hint=f"remove {self.path(item)} and run the command again",
            )
        return data

    def put(self, item: LockedInput, source: Path) -> None:
        """Take a fetched file over into the store.

        Raises:
            InputError: The file is not what the lock names.
        """
        data = source.read_bytes()
        actual = hashlib.sha256(data).hexdigest()
        if actual != item.sha256:
            package = f"{item.kind} {item.name} {item.version}"
            raise InputError(
                f"fetched {package} has sha256 {actual[:12]}, the lock names {item.sha256[:12]}",
                hint="the source configured on this machine serves other bytes under the same version",
            )
        target = self.path(item)
        target.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=target.parent)
        with os.fdopen(fd, "wb") as out:
            out.write(data)
        os.replace(temporary, target)


def fetch_missing(definition: Definition, items: Sequence[LockedInput], store: InputStore) -> int:
    """Fetch what the store lacks.

    Returns:
        How many inputs were fetched.

    Raises:
        InputError: One could not be had, or is not what the lock names.
    """
    missing = [i for i in items if not store.path(i).exists()]
    debs = [i for i in missing if i.kind == "deb"]
    wheels = [i for i in missing if i.kind == "wheel"]
    with tempfile.TemporaryDirectory(prefix="executor-fetch-") as scratch:
        folder = Path(scratch)
        if debs:
            with IsolatedApt(architecture=definition.architecture) as apt:
                apt.download([(i.name, i.version) for i in debs], folder)
        if wheels:
            pip_download(definition, [f"{i.name}=={i.version}" for i in wheels], folder, with_dependencies=False)
        _take_over(missing, folder, store)
    return len(missing)


def _take_over(items: Sequence[LockedInput], folder: Path, store: InputStore) -> None:
    """Put fetched files into the store by what they are, whatever they are called."""
    found = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in sorted(folder.iterdir())}
    for item in items:
        if item.sha256 not in found:
            raise InputError(
                f"fetched {item.kind} {item.name} {item.version} is not what the lock names: sha256 {item.sha256[:12]}",
                hint="the sources configured on this machine serve other bytes under the same version",
            )
        store.put(item, found[item.sha256])


def pip_download(definition: Definition, requirements: Sequence[str], target: Path, *, with_dependencies: bool) -> None:
    """Let the machine's pip download wheels for the image's Python, running no code of theirs.

    Raises:
        InputError: pip could not provide them.
    """
    tag = "cp" + definition.python.replace(".", "")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(target)]
    command += ["--implementation", "cp", "--python-version", definition.python]
    for abi in (tag, "abi3", "none"):
        command += ["--abi", abi]
    for platform in definition.platforms:
        command += ["--platform", platform]
    if not with_dependencies:
        command.append("--no-deps")
    done = subprocess.run(
        [*command, *requirements], capture_output=True, text=True, timeout=_FETCH_SECONDS_MAX, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise InputError(
            f"pip could not download {', '.join(requirements)}: {reason}",
            hint="check this machine's pip configuration; CPU builds of torch need an index that carries them",
        )
