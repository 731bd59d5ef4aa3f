"""The recipe: every rule that turns locked inputs into layers. It stands in the lock, so that the lock alone suffices.

Trust: a recipe is as trusted as the lock that holds it. What it can weaken (executables, environment, user) is bound
by the image ID, which the lock's reader recomputes.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Any

_EPOCH_MAX = 0o77777777777  # what a tar header holds: the year 2242
_FORMS = {
    "architecture": re.compile(r"amd64|arm64"),
    "python": re.compile(r"3\.[1-9][0-9]?"),
    "glibc": re.compile(r"2\.[1-9][0-9]?"),
    "user": re.compile(r"[0-9]{1,10}:[0-9]{1,10}"),
}
_FIELDS = {
    "architecture": str,
    "epoch": int,
    "python": str,
    "glibc": str,
    "compiler": tuple,
    "own_layer": tuple,
    "executables": tuple,
    "drop": tuple,
    "keep": tuple,
    "directories": tuple,
    "texts": dict,
    "user": str,
    "env": tuple,
    "entrypoint": tuple,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How inputs become layers.

    Attributes:
        architecture: Of the image, in Debian's and OCI's common words: `amd64`.
        epoch: Time of every file, in seconds since 1970.
        python: Minor version of the image's interpreter, such as `3.11`.
        glibc: Version of the image's glibc, such as `2.36`: newer wheels do not fit it.
        compiler: Debian packages that the interpreter needs to compile, and no more: an update of any other package
            leaves the bytecode as it is.
        own_layer: Wheels with a layer of their own, in order; fnmatch patterns over names.
        executables: Paths that get an execute bit. No other file has one.
        drop: Files to leave out; fnmatch patterns over the whole path, in which `*` matches `/` too.
        keep: Exceptions from `drop`.
        directories: Directories that no package brings.
        texts: Files that no package brings: path and text.
        user: `UID:GID` of the image's processes.
        env: Environment, `NAME=value` each.
        entrypoint: Command of the image.
    """

    architecture: str
    epoch: int
    python: str
    glibc: str
    compiler: tuple[str, ...]
    own_layer: tuple[str, ...]
    executables: tuple[str, ...]
    drop: tuple[str, ...]
    keep: tuple[str, ...]
    directories: tuple[str, ...]
    texts: tuple[tuple[str, str], ...]
    user: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]

    def keeps(self, path: str) -> bool:
        """Tell whether a file belongs in the image."""
        return bool(_matcher(self.keep)(path)) or not _matcher(self.drop)(path)

    def to_wire(self) -> dict[str, Any]:
        """Return the form that the lock holds."""
        wire = {name: getattr(self, name) for name in _FIELDS}
        return {name: _plain(value) for name, value in wire.items()} | {"texts": dict(self.texts)}


def parse_recipe(document: Mapping[str, Any]) -> Recipe:
    """Parse the form that the lock holds.

    Raises:
        ValueError: A field is missing, unknown, or of another type.
    """
    if set(document) != set(_FIELDS):
        raise ValueError(f"recipe has wrong fields: {sorted(set(document) ^ set(_FIELDS))}")
    recipe = Recipe(**{name: _parse(name, kind, document[name]) for name, kind in _FIELDS.items()})
    if not 0 <= recipe.epoch <= _EPOCH_MAX:
        raise ValueError(f"recipe has a wrong epoch: {recipe.epoch}")
    for name, form in _FORMS.items():
        if not form.fullmatch(getattr(recipe, name)):
            raise ValueError(f"recipe has a wrong {name}: {getattr(recipe, name)!r}")
    for path in (*recipe.directories, *(path for path, _ in recipe.texts)):
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise ValueError(f"recipe has a path that is none in an image: {path!r}")
    return recipe


def _parse(name: str, kind: type, value: object) -> Any:
    if kind is tuple and isinstance(value, list) and all(isinstance(v, str) and v.isprintable() for v in value):
        return tuple(value)
    if kind is dict and isinstance(value, dict) and all(_is_text(k, v) for k, v in value.items()):
        return tuple(sorted(value.items()))
    if kind is int and type(value) is int:
        return value
    if kind is str and isinstance(value, str) and value.isprintable():
        return value
    raise ValueError(f"recipe has a wrong {name}: {value!r}")


def _is_text(path: object, text: object) -> bool:
    return isinstance(path, str) and path.isprintable() and isinstance(text, str) and text.isascii()


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@lru_cache(maxsize=16)
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], object]:
    """One expression for all patterns: a build asks for tens of thousands of paths."""
    return re.compile("|".join(translate(p) for p in patterns)).match if patterns else lambda _path: None
