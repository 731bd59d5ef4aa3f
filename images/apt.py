"""Resolve and download Debian packages with an apt state of its own, apart from what the machine has installed.

apt itself checks the chain InRelease signature -> Packages -> sha256 with the machine's configured keyrings and
sources; this module adds an empty package status, so that the answer does not depend on the machine.
"""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from images.errors import InputError

_SECONDS_MAX = 600
_INSTALL = re.compile(r"^Inst (\S+) \((\S+) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class DebRecord:
    """What the signed package index says of one package."""

    name: str
    version: str
    filename: str
    size: int
    sha256: str


class IsolatedApt:
    """A temporary apt state. Use as a context manager; entering refreshes the package lists."""

    def __init__(self, *, architecture: str) -> None:
        self._architecture = architecture
        self._scratch = tempfile.TemporaryDirectory(prefix="executor-apt-")
        self._root = Path(self._scratch.name)

    def __enter__(self) -> Self:
        for part in ("lists/partial", "archives/partial"):
            (self._root / part).mkdir(parents=True)
        (self._root / "status").touch()
        self._run("apt-get", "update", "-qq")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.cleanup()

    def resolve(self, roots: Sequence[str]) -> list[DebRecord]:
        """Return the packages that the roots need, themselves included, sorted by name.

        Raises:
            InputError: apt cannot satisfy them, or a package has no sha256 in the index.
        """
        out = self._run("apt-get", "install", "--simulate", "--no-install-recommends", *roots)
        chosen = sorted(m.groups() for line in out.splitlines() if (m := _INSTALL.match(line)))
        return [self._record(name, version) for name, version in chosen]

    def download(self, packages: Sequence[tuple[str, str]], target: Path) -> None:
        """Download exact versions into a directory.

        Raises:
            InputError: A version cannot be had from the configured sources any more.
        """
        self._run("apt-get", "download", "-qq", *(f"{name}={version}" for name, version in packages), cwd=target)

    def _record(self, name: str, version: str) -> DebRecord:
        stanza = self._run("apt-cache", "show", "--no-all-versions", f"{name}={version}").split("\n\n")[0]
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if re.match(r"^[A-Za-z0-9-]+: ", line))
        if "SHA256" not in fields:
            raise InputError(f"package index has no sha256 for {name} {version}")
        return DebRecord(
            name=name,
            version=version,
            filename=fields["Filename"].rsplit("/", 1)[-1],
            size=int(fields["Size"]),
            sha256=fields["SHA256"],
        )

    def _run(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        options = {
            "Dir::State::Lists": self._root / "lists",
            "Dir::State::status": self._root / "status",
            "Dir::Cache": self._root,
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
            "APT::Sandbox::User": "root",
            "APT::Install-Suggests": "false",
        }
        command = [program, *(f"-o{key}={value}" for key, value in options.items()), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_MAX, cwd=cwd, check=False)
        except FileNotFoundError as err:
            raise InputError(
                f"{program} is not installed", hint="locking and fetching Debian packages needs apt"
            ) from err
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise InputError(f"{program} {arguments[0]} failed: {reason}", hint="check this machine's apt sources")
        return done.stdout
