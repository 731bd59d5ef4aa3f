"""Let the machine's pip find and download wheels for the image's Python. Nothing of them is run or installed here."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from images.errors import SourceError

_FETCH_SECONDS_MAX = 1800
_GLIBC_OLDEST = 5  # manylinux1 is glibc 2.5 (PEP 513)
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def pip_download(
    requirements: Sequence[str],
    target: Path,
    *,
    python: str,
    architecture: str,
    glibc: str,
    constraints: Sequence[str] | None,
) -> None:
    """Download wheels into a folder.

    Args:
        requirements: PEP 508 requirements.
        target: The folder.
        python: Minor version of the image's Python, such as `3.11`.
        architecture: Debian architecture of the image.
        glibc: The image's glibc, such as `2.36`: newer wheels do not fit it.
        constraints: With dependencies, under these constraints; None: without dependencies.

    Raises:
        SourceError: pip could not provide them.
    """
    command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(target)]
    command += _tags(python, architecture, glibc)
    if constraints is None:
        command.append("--no-deps")
    elif constraints:
        (target / "constraints.txt").write_text("\n".join(constraints), encoding="utf-8")
        command += ["--constraint", str(target / "constraints.txt")]
    try:
        done = subprocess.run(
            [*command, "--", *requirements],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_FETCH_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise SourceError(f"pip did not end within {_FETCH_SECONDS_MAX} s") from err
    (target / "constraints.txt").unlink(missing_ok=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or ["no output"]
        raise SourceError(
            f"pip could not download {_few(requirements)}: {lines[-1].removeprefix('ERROR: ')}",
            hint="check this machine's pip configuration, or take the packages from a registry: "
            "executor image pull --inputs",
        )


def _tags(python: str, architecture: str, glibc: str) -> list[str]:
    options = ["--implementation", "cp", "--python-version", python]
    for abi in ("cp" + python.replace(".", ""), "abi3", "none"):
        options += ["--abi", abi]
    for platform in platforms(architecture, glibc):
        options += ["--platform", platform]
    return options


def platforms(architecture: str, glibc: str) -> list[str]:
    """Return the platform tags that fit an image, newest first (PEP 600, with the older names of PEP 513 to 599)."""
    machine = MACHINES[architecture]
    newest = int(glibc.split(".")[1])
    old = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    tags = []
    for minor in range(newest, _GLIBC_OLDEST - 1, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if minor in old:
            tags.append(f"{old[minor]}_{machine}")
    return tags


def _few(requirements: Sequence[str]) -> str:
    return ", ".join(requirements[:3]) + (f" and {len(requirements) - 3} more" if len(requirements) > 3 else "")
