"""The image definition: the few lines that a person edits, from which the lock is resolved."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images.errors import LockError
from images.lock import Roots, lock_path
from images.recipe import Recipe, parse_recipe


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
        return _parse(_document(path))
    except FileNotFoundError as err:
        raise LockError(f"no image definition named {name!r}") from err
    except (KeyError, TypeError, ValueError) as err:
        raise LockError(f"image definition is malformed: {path.name}: {err}") from err


def _document(path: Path) -> dict[str, Any]:
    """Read a definition; one that extends another changes only the fields that it names."""
    document = tomllib.loads(path.read_text())
    base = document.pop("extends", None)
    return _merge(_document(path.with_name(f"{base}.toml")), document) if base else document


def _merge(base: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = base.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _parse(doc: dict[str, Any]) -> Definition:
    debian, wheels, files, config = doc["debian"], doc["wheels"], doc["files"], doc["config"]
    return Definition(
        name=doc["name"],
        release=debian["release"],
        signers=tuple(debian["signers"]),
        roots=Roots(debs=tuple(debian["roots"]), wheels=tuple(wheels["roots"])),
        recipe=parse_recipe(
            {
                "architecture": doc["architecture"],
                "epoch": doc["epoch"],
                "python": wheels["python"],
                "glibc": debian["glibc"],
                "compiler": debian["compiler"],
                "own_layer": wheels["own_layer"],
                "executables": files["executables"],
                "drop": [*files["drop"], *files.get("also_drop", [])],
                "keep": files["keep"],
                "directories": files["directories"],
                "texts": files["texts"],
                **config,
            }
        ),
    )
