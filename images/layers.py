"""Cut an image into layers, and each layer into an ordered list of files.

The order is by how rarely a layer changes: operating system, large wheels, other wheels, worker. Two inputs that bring
the same path with other content are refused, and every directory is written once, before what lies in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from images.bytecode import ImageInterpreter
from images.deb import read_deb
from images.definition import Definition
from images.errors import ImageError, UnsafeEntryError
from images.inputs import InputStore
from images.lock import LockedInput
from images.tar import Entry, Kind
from images.wheel import read_wheel

WORKER_HOME = "usr/lib/python3/dist-packages"
_USR_MERGE = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_MOUNT_POINTS = ("dev", "proc", "sys", "in", "run/executor", "job", "etc", "usr/sbin", "var/lib")
_PASSWD = b"root:x:0:0:root:/:/nonexistent\njob:x:65532:65532:job:/tmp:/nonexistent\n"
_GROUP = b"root:x:0:\njob:x:65532:\n"


def layer_plan(definition: Definition, inputs: Sequence[LockedInput]) -> list[tuple[str, tuple[LockedInput, ...]]]:
    """Return the layers that come from packages, in order: their names and the inputs of each."""
    debs = tuple(i for i in inputs if i.kind == "deb")
    wheels = [i for i in inputs if i.kind == "wheel"]
    own = [(w.name, (w,)) for w in wheels if w.name in definition.own_layer]
    rest = tuple(w for w in wheels if w.name not in definition.own_layer)
    return [("os", debs), *own, ("wheels", rest)]


def os_entries(definition: Definition, debs: Sequence[LockedInput], store: InputStore) -> list[Entry]:
    """Return the operating system's files without bytecode."""
    entries = [Entry(path=path, kind=Kind.SYMLINK, target=target) for path, target in _USR_MERGE.items()]
    entries += [Entry(path=path, kind=Kind.DIRECTORY) for path in _MOUNT_POINTS]
    entries += [Entry(path="tmp", kind=Kind.DIRECTORY, mode=0o1777)]
    entries += [_file("etc/passwd", _PASSWD), _file("etc/group", _GROUP)]
    status = []
    for item in debs:
        found = [e for e in read_deb(store.read(item), name=item.name) if e.kind is not Kind.DIRECTORY]
        entries += found
        status.append(f"Package: {item.name}\nStatus: install ok installed\nVersion: {item.version}\n")
    for item, text in zip(debs, status, strict=True):  # scanners read packages of shell-less images here
        entries.append(_file(f"var/lib/dpkg/status.d/{item.name}", text.encode()))
    return arrange(entries, definition)


def wheel_entries(definition: Definition, wheels: Sequence[LockedInput], store: InputStore) -> list[Entry]:
    """Return the files of wheels without bytecode."""
    return arrange((e for w in wheels for e in read_wheel(store.read(w), name=w.name)), definition)


def worker_entries(definition: Definition, checkout: Path) -> list[Entry]:
    """Return the worker's and the model tools' sources from a checkout.

    Raises:
        ImageError: The sources are not there: an installed distribution does not carry them.
    """
    entries = []
    for source, target in ((checkout / "images/worker", "worker"), (checkout / "tools", "tools")):
        files = sorted(p for p in source.rglob("*.py") if "__pycache__" not in p.parts)
        if not files:
            raise ImageError(f"no worker sources in {source}", hint="build images from a checkout of the project")
        for path in files:
            relative = path.relative_to(source).as_posix()
            entries.append(_file(f"{WORKER_HOME}/{target}/{relative}", path.read_bytes()))
    return arrange(entries, definition)


def with_bytecode(entries: list[Entry], interpreter: ImageInterpreter) -> list[Entry]:
    """Return the entries with the bytecode of every Python source among them, still in order."""
    return _ordered({e.path: e for e in [*entries, *interpreter.compile(entries)]})


def arrange(entries: Iterable[Entry], definition: Definition) -> list[Entry]:
    """Drop what the definition drops, normalise modes, add directories, and sort.

    Raises:
        UnsafeEntryError: Two inputs bring the same path with other content.
    """
    found: dict[str, Entry] = {}
    for raw in entries:
        if raw.kind is Kind.FILE and not definition.keeps(raw.path):
            continue
        if raw.kind is Kind.SYMLINK and raw.path not in _USR_MERGE and not definition.keeps(raw.path):
            continue
        entry = replace(raw, executable=raw.path in definition.executables)
        known = found.setdefault(entry.path, entry)
        if known != entry:
            raise UnsafeEntryError(f"two inputs bring other content for the same path: {entry.path}")
    return _ordered(found)


def _ordered(found: dict[str, Entry]) -> list[Entry]:
    """Sort by path segments and put every parent directory in front of its members."""
    full = dict(found)
    for path in found:
        parent = path.rpartition("/")[0]
        while parent and parent not in full:
            full[parent] = Entry(path=parent, kind=Kind.DIRECTORY)
            parent = parent.rpartition("/")[0]
    return [full[path] for path in sorted(full, key=lambda p: p.split("/"))]


def _file(path: str, data: bytes) -> Entry:
    return Entry(path=path, kind=Kind.FILE, data=data)
