"""Resolve and download Debian packages with an apt state of its own, apart from what the machine has installed.

Where packages come from is the machine's configuration. What they must be is not: digests are taken from indexes whose
signatures are checked in `images.debian`, and what is downloaded is held against the lock.
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from images.debian import DebRecord, read_index
from images.errors import InputError, SourceError
from images.lock import SignedIndex

_SECONDS_MAX = 600
_INSTALL = re.compile(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ")
_ORIGINS = ("", "-updates", "-security")


class IsolatedApt:
    """A temporary apt state. Use as a context manager; entering refreshes the package lists.

    Args:
        architecture: Debian architecture.
        installed: Control paragraphs of packages that apt shall take as installed, joined by empty lines.
    """

    def __init__(self, *, architecture: str, installed: str = "") -> None:
        self._architecture = architecture
        self._installed = installed
        self._scratch = tempfile.TemporaryDirectory(prefix="executor-apt-")
        self._root = Path(self._scratch.name)

    def __enter__(self) -> Self:
        for part in ("lists/partial", "archives/partial"):
            (self._root / part).mkdir(parents=True)
        (self._root / "status").write_text(self._installed, encoding="utf-8")
        self._run("apt-get", "update", "-qq", "--error-on=any")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.cleanup()

    @property
    def lists(self) -> Path:
        """Where the package lists lie."""
        return self._root / "lists"

    def choose(self, packages: Sequence[str]) -> dict[str, str]:
        """Return name and version of what apt would install to have the packages, in their newest versions.

        Raises:
            SourceError: apt cannot satisfy them.
        """
        out = self._run("apt-get", "install", "--simulate", "--no-install-recommends", "--", *packages)
        return {m[1]: m[2] for line in out.splitlines() if (m := _INSTALL.match(line))}

    def records(
        self, chosen: Mapping[str, str], *, release: str, signers: Sequence[str]
    ) -> tuple[list[DebRecord], list[SignedIndex]]:
        """Return what the signed indexes of a Debian release say of chosen packages, sorted by name.

        Args:
            chosen: Versions by name.
            release: Codename; its updates and security updates count as part of it.
            signers: Fingerprints of primary keys, one of which must have signed each index.

        Raises:
            InputError: An index is not signed by one of them, is that of another suite than it is served as, or none
                names a chosen package.
        """
        found: dict[tuple[str, str], DebRecord] = {}
        indexes = []
        for path in sorted(self.lists.glob("*_InRelease")):
            suite = path.name.rpartition("_dists_")[2].removesuffix("_InRelease")
            if suite not in {release + origin for origin in _ORIGINS}:
                continue
            signed, records = read_index(path, architecture=self._architecture, signers=signers)
            if signed.suite != suite:
                raise InputError(f"a mirror serves Debian {signed.suite} in the place of {suite}")
            indexes.append(signed)
            for record in records:
                found.setdefault((record.name, record.version), record)
        missing = sorted(f"{n} {v}" for n, v in chosen.items() if (n, v) not in found)
        if missing:
            raise InputError(
                f"no signed index of Debian {release} names {missing[0]}",
                hint=f"this machine's apt sources must carry {release}, its updates and its security updates",
            )
        return [found[item] for item in sorted(chosen.items())], indexes

    def download(self, packages: Sequence[tuple[str, str]], target: Path) -> None:
        """Download exact versions into a directory.

        Raises:
            SourceError: A version cannot be had from the configured sources any more.
        """
        self._run("apt-get", "download", "-qq", "--", *(f"{name}={version}" for name, version in packages), cwd=target)

    def _run(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        options = {
            "Dir::State::Lists": self.lists,
            "Dir::State::status": self._root / "status",
            "Dir::Cache": self._root,
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
            "APT::Sandbox::User": "root",
            "APT::Install-Suggests": "false",
            "Acquire::GzipIndexes": "false",  # the signed digest is that of the uncompressed index
            "Acquire::Languages": "none",
        }
        command = [program, *(f"-o{key}={value}" for key, value in options.items()), *arguments]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_SECONDS_MAX,
                cwd=cwd,
                check=False,
            )
        except FileNotFoundError as err:
            raise SourceError(
                f"{program} is not installed",
                hint="locking and fetching Debian packages needs apt; `executor image pull --inputs` does not",
            ) from err
        except subprocess.TimeoutExpired as err:
            raise SourceError(f"{program} {arguments[0]} did not end within {_SECONDS_MAX} s") from err
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or ["no output"]
            raise SourceError(
                f"{program} {arguments[0]} failed: {lines[0].removeprefix('E: ')}",
                hint="check this machine's apt sources, or take the packages from a registry: "
                "executor image pull --inputs",
            )
        return done.stdout
