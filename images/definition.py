"""The image definition: the few lines that a person edits, from which the lock is resolved."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images.errors import LockError
from images.lock import Roots, lock_path
from images.recipe import Recipe, parse_recipe

_FIELDS = {"name", "epoch", "architecture", "debian", "wheels", "files", "config"}
_PARTS = {
    "debian": {"release", "glibc", "signers", "roots", "compiler"},
    "wheels": {"python", "roots", "own_layer"},
    "files": {"executables", "drop", "also_drop", "keep", "directories", "texts"},
    "config": {"user", "env", "entrypoint"},
}
_WORD = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9 \[\],<>=!~+._-]*")
_FINGERPRINT = re.compile(r"[0-9A-F]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A parsed `NAME.toml`.

    Attributes:
        name: Image name.
        release: Codename of the Debian release that packages come from.
        signers: Fingerprints of the keys that may sign its indexes.
        roots: The packages to have.
        recipe: How layers are made of them.
    """

    name: str
    release: str
    signers: tuple[str, ...]
    roots: Roots
    recipe: Recipe


def load_definition(name: str, folder: Path | None = None) -> Definition:
    """Read `NAME.toml`, by default from this distribution.

    Raises:
        LockError: There is no such definition, or it is malformed.
    """
    path = (folder / f"{name}.toml") if folder else lock_path(name).with_name(f"{name}.toml")
    try:
        return _parse(_document(path), name)
    except FileNotFoundError as err:
        raise LockError(f"no image definition named {name!r}") from err
    except (KeyError, TypeError, ValueError) as err:
        raise LockError(f"image definition is malformed: {path.name}: {err}") from err


def _document(path: Path) -> dict[str, Any]:
    """Read a definition; one that extends another changes only the fields that it names."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    base = document.pop("extends", None)
    if base is None:
        return document
    below = tomllib.loads(path.with_name(f"{base}.toml").read_text(encoding="utf-8"))
    if "extends" in below:
        raise ValueError(f"{base}.toml extends another one itself")
    return _merge(below, document)


def _merge(base: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = base.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _parse(doc: dict[str, Any], name: str) -> Definition:
    for fields, wanted in ((doc, _FIELDS), *((doc[part], names) for part, names in _PARTS.items())):
        if unknown := set(fields) - wanted:
            raise ValueError(f"unknown fields: {sorted(unknown)}")
    if doc["name"] != name:
        raise ValueError(f"it is the definition of {doc['name']!r}")
    debian, wheels, files, config = doc["debian"], doc["wheels"], doc["files"], doc["config"]
    return Definition(
        name=name,
        release=_strings([debian["release"]], _WORD)[0],
        signers=_strings(debian["signers"], _FINGERPRINT),
        roots=Roots(debs=_strings(debian["roots"], _WORD), wheels=_strings(wheels["roots"], _REQUIREMENT, least=0)),
        recipe=parse_recipe(
            {
                "architecture": doc["architecture"],
                "epoch": doc["epoch"],
                "python": wheels["python"],
                "glibc": debian["glibc"],
                "compiler": debian["compiler"],
                "own_layer": wheels["own_layer"],
                "executables": files["executables"],
                "drop": files["drop"] + files.get("also_drop", []),
                "keep": files["keep"],
                "directories": files["directories"],
                "texts": files["texts"],
                **config,
            }
        ),
    )


def _strings(value: object, form: re.Pattern[str], *, least: int = 1) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < least:
        raise TypeError(f"expected a list of {least} or more, got {value!r}")
    for item in value:
        if not isinstance(item, str) or not form.fullmatch(item):
            raise ValueError(f"not what is expected here: {item!r}")
    return tuple(value)
