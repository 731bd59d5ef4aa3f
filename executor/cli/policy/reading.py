"""What the actions share: which policy is meant, and how results are printed."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TextIO

from executor.errors import RequestError
from policy.load import FOLDER, load_policy
from policy.model import Policy


def policy_folder(text: str | None) -> Path:
    """Return the policy folder that is meant.

    Raises:
        RequestError: It is none.
    """
    folder = FOLDER if text is None else Path(text)
    if not (folder / "profiles").is_dir():
        raise RequestError(f"not a policy folder: {folder}", hint="name the folder that holds `profiles`")
    return folder


def read_policy(text: str) -> Policy:
    """Read `PROFILE` or `FOLDER:PROFILE`.

    Raises:
        RequestError: The folder is none.
        PolicyFileError: The profile cannot be read.
    """
    folder, separator, name = text.rpartition(":")
    return load_policy(name, folder=policy_folder(folder if separator else None))


def profiles_of(folder: Path) -> list[str]:
    """Return the names of a folder's profiles."""
    return sorted(path.stem for path in (folder / "profiles").glob("*.toml"))


def today() -> date:
    """Return the date by which rules expire."""
    return datetime.now(UTC).date()


def print_result(out: TextIO, document: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print one JSON object, or text for people."""
    out.write(json.dumps(document, indent=2) + "\n" if as_json else text + "\n")
