"""Write a lock: resolve the definition's roots once, and pin everything that they bring by sha256.

Used by people who change an image, never by a run.
"""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from images.apt import IsolatedApt
from images.build import Image
from images.definition import Definition
from images.inputs import InputStore, pip_download
from images.lock import SCHEMA, LockedInput


def resolve_inputs(definition: Definition, store: InputStore) -> tuple[LockedInput, ...]:
    """Resolve all inputs, and leave the wheels in the store.

    Raises:
        InputError: apt or pip cannot satisfy the definition.
    """
    return (*_resolve_debs(definition), *_resolve_wheels(definition, store))


def lock_bytes(definition: Definition, inputs: Iterable[LockedInput], image: Image) -> bytes:
    """Return the lock file's bytes: one line per input, so that a change reads well in review."""
    head: dict[str, Any] = {
        "schema": SCHEMA,
        "name": definition.name,
        "epoch": definition.epoch,
        "expect": {
            "image_id": image.image_id,
            "manifest": image.manifest_digest,
            "layers": [[layer.name, f"sha256:{layer.sha256}"] for layer in image.layers],
        },
    }
    lines = [json.dumps(_input_wire(i)) for i in inputs]
    text = json.dumps(head, indent=2).removesuffix("\n}") + ',\n  "inputs": [\n    '
    return (text + ",\n    ".join(lines) + "\n  ]\n}\n").encode()


def _input_wire(item: LockedInput) -> dict[str, Any]:
    return {name: getattr(item, name) for name in LockedInput.__slots__}


def _resolve_debs(definition: Definition) -> list[LockedInput]:
    with IsolatedApt(architecture=definition.architecture) as apt:
        records = apt.resolve(definition.deb_roots)
    return [
        LockedInput(
            kind="deb",
            name=r.name,
            version=r.version,
            filename=r.filename,
            size=r.size,
            sha256=r.sha256,
            why="root" if r.name in definition.deb_roots else "dependency",
        )
        for r in records
    ]


def _resolve_wheels(definition: Definition, store: InputStore) -> list[LockedInput]:
    roots = {r.split("==")[0] for r in definition.wheel_roots}
    found = []
    with tempfile.TemporaryDirectory(prefix="executor-lock-") as scratch:
        pip_download(definition, definition.wheel_roots, Path(scratch), with_dependencies=True)
        for path in sorted(Path(scratch).iterdir()):
            name, version = _name_and_version(path)
            item = LockedInput(
                kind="wheel",
                name=name,
                version=version,
                filename=path.name,
                size=path.stat().st_size,
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                why="root" if name in roots else "dependency",
            )
            store.put(item, path)
            found.append(item)
    return sorted(found, key=lambda i: i.name)


def _name_and_version(wheel: Path) -> tuple[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith(".dist-info/METADATA")]
        fields = HeaderParser().parsestr(archive.read(member).decode())
    name = fields["Name"].lower().replace("_", "-").replace(".", "-")
    return name, fields["Version"]
