"""The image definition: the few lines that a person edits, from which the lock is resolved."""

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from images.errors import LockError
from images.lock import lock_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A parsed `NAME.toml`. Field meanings are in the comments of `cpu.toml`."""

    name: str
    epoch: int
    architecture: str
    deb_roots: tuple[str, ...]
    python: str
    platforms: tuple[str, ...]
    wheel_roots: tuple[str, ...]
    own_layer: tuple[str, ...]
    executables: frozenset[str]
    drop: tuple[str, ...]
    keep: tuple[str, ...]
    user: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]

    def keeps(self, path: str) -> bool:
        """Tell whether a file belongs in the image."""
        return any(fnmatchcase(path, k) for k in self.keep) or not any(fnmatchcase(path, d) for d in self.drop)


def load_definition(name: str) -> Definition:
    """Read `images/NAME.toml`.

    Raises:
        LockError: There is no such definition, or it is malformed.
    """
    path = lock_path(name).with_name(f"{name}.toml")
    try:
        return _parse(path)
    except FileNotFoundError as err:
        raise LockError(f"no image definition named {name!r}") from err
    except (KeyError, TypeError, ValueError) as err:
        raise LockError(f"image definition is malformed: {path.name}: {err}") from err


def _parse(path: Path) -> Definition:
    doc = tomllib.loads(path.read_text())
    wheels, files, config = doc["wheels"], doc["files"], doc["config"]
    return Definition(
        name=doc["name"],
        epoch=doc["epoch"],
        architecture=doc["architecture"],
        deb_roots=tuple(doc["debian"]["roots"]),
        python=wheels["python"],
        platforms=tuple(wheels["platforms"]),
        wheel_roots=tuple(wheels["roots"]),
        own_layer=tuple(wheels["own_layer"]),
        executables=frozenset(files["executables"]),
        drop=tuple(files["drop"]),
        keep=tuple(files["keep"]),
        user=config["user"],
        env=tuple(config["env"]),
        entrypoint=tuple(config["entrypoint"]),
    )
