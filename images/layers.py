"""Cut an image into layers, and each layer into an ordered list of files.

The order is by how rarely a layer changes: operating system, large wheels, other wheels, worker. Two inputs that bring
the same path with other content are refused, and every directory is written once, before what lies in it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from images.deb import Deb, merged, read_deb
from images.errors import UnsafeEntryError
from images.inputs import blob_of
from images.lock import OS, WORKER, LockedInput
from images.recipe import Recipe
from images.store import BlobStore
from images.tar import Entry, Kind
from images.wheel import SITE, read_wheel

_USR_MERGE = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_STATUS = "var/lib/dpkg/status.d"
_WHITEOUT = ".wh."  # image-spec 1.1, layer: a file so called removes another one of a lower layer
_OURS = ("worker", "tools")  # in the site directory: an extension module there would be imported in place of the source
_NAME_BYTES_MAX = 255  # of a path segment, on the file systems that engines use

Group = tuple[Entry, ...]


def layer_groups(
    name: str, items: Sequence[LockedInput], *, recipe: Recipe, store: BlobStore, open_files: ExitStack
) -> list[Group]:
    """Return the files of a layer, one group per input, without bytecode and without directories.

    Args:
        name: Of the layer.
        items: Its inputs.
        recipe: The rules.
        store: Where the inputs lie. Each is hashed before a byte of it is used.
        open_files: Holds the wheels open for as long as the entries are used.

    Raises:
        InputError: An input is missing, or not what the lock names.
        UnsafeEntryError: An input holds what no image of ours may hold.
    """
    if name == OS:
        return _os_groups(items, recipe, store)
    if name == WORKER:
        return [tuple(_source_entry(i, store) for i in items)]
    return [_wheel_group(i, recipe, store, open_files) for i in items]


def compiler_entries(items: Sequence[LockedInput], *, recipe: Recipe, store: BlobStore) -> list[Entry]:
    """Return the files of the packages that the interpreter needs to compile.

    Raises:
        UnsafeEntryError: The recipe names a package that is not locked.
    """
    found = {i.name: i for i in items if i.kind == "deb"}
    absent = [name for name in recipe.compiler if name not in found]
    if absent:
        raise UnsafeEntryError(f"the interpreter's package is not among the inputs: {absent[0]}")
    debs = [read_deb(store.read(blob_of(found[name])), name=name) for name in recipe.compiler]
    return [e for deb in debs for e in deb.entries]


def arrange(entries: Iterable[Entry]) -> list[Entry]:
    """Add directories and sort by path segments, every directory in front of what lies in it.

    Raises:
        UnsafeEntryError: Two inputs bring the same path with other content, or one brings a file where another brings
            a directory.
    """
    found: dict[str, Entry] = {}
    for entry in entries:
        known = found.setdefault(entry.path, entry)
        if known is not entry and known.identity != entry.identity:
            raise UnsafeEntryError(f"two inputs bring other content for the same path: {entry.path}")
    for path in list(found):
        for parent in _parents(path):
            above = found.setdefault(parent, Entry(path=parent, kind=Kind.DIRECTORY))
            if above.kind is not Kind.DIRECTORY:
                raise UnsafeEntryError(f"a file lies where another input needs a directory: {parent}")
    return [found[path] for path in sorted(found, key=lambda p: p.split("/"))]


def _os_groups(items: Sequence[LockedInput], recipe: Recipe, store: BlobStore) -> list[Group]:
    ours = [Entry(path=path, kind=Kind.SYMLINK, target=target) for path, target in _USR_MERGE.items()]
    ours += [Entry(path=path, kind=Kind.DIRECTORY) for path in recipe.directories]
    ours += [Entry(path="tmp", kind=Kind.DIRECTORY, mode=0o1777)]
    ours += [_file(path, text.encode()) for path, text in recipe.texts]
    groups = [tuple(ours)]
    for item in items:
        deb = read_deb(store.read(blob_of(item)), name=item.name)
        kept = [_checked(e, recipe, str(item)) for e in deb.entries if recipe.keeps(e.path)]
        groups.append((*kept, *_status_entries(item, deb, {e.path for e in kept})))
    return groups


def _status_entries(item: LockedInput, deb: Deb, kept: set[str]) -> Iterator[Entry]:
    """What scanners read of an image without dpkg's own database: `status.d`, as Debian's distroless images have it."""
    control = deb.control.rstrip("\n").replace("\n", "\nStatus: install ok installed\n", 1)
    yield _file(f"{_STATUS}/{item.name}", control.encode() + b"\n")
    lines = [line for line in deb.md5sums.splitlines() if merged(line.partition("  ")[2]) in kept]
    if lines:
        yield _file(f"{_STATUS}/{item.name}.md5sums", ("\n".join(lines) + "\n").encode())


def _wheel_group(item: LockedInput, recipe: Recipe, store: BlobStore, open_files: ExitStack) -> Group:
    file = open_files.enter_context(store.open(blob_of(item)))
    entries = read_wheel(file, name=item.name, keeps=recipe.keeps)
    return tuple(_checked(e, recipe, str(item)) for e in entries)


def _source_entry(item: LockedInput, store: BlobStore) -> Entry:
    return _file(f"{SITE}/{item.name.removeprefix('images/')}", store.read(blob_of(item)))


def _checked(entry: Entry, recipe: Recipe, package: str) -> Entry:
    """Refuse what no package may bring. An execute bit is what the recipe says, whatever the package says."""
    for text in (entry.path, entry.target):
        if not text.isprintable():  # control characters, NUL, and bytes that are no UTF-8
            raise UnsafeEntryError(f"name with unprintable characters in {package}: {text!r}")
    parts = entry.path.split("/")
    if any(p.startswith(_WHITEOUT) for p in parts):
        raise UnsafeEntryError(f"file that would remove another one in {package}: {entry.path}")
    if any(len(p.encode()) > _NAME_BYTES_MAX for p in parts):
        raise UnsafeEntryError(f"name is too long in {package}: {entry.path}")
    if _shadows_ours(entry.path, recipe.python):
        raise UnsafeEntryError(f"file in the place of the worker or the tools in {package}: {entry.path}")
    if entry.path == "etc/ld.so.preload":
        raise UnsafeEntryError(f"library for every process in {package}: {entry.path}")
    return replace(entry, executable=True) if entry.path in recipe.executables else entry


def _shadows_ours(path: str, python: str) -> bool:
    """Tell whether Python would import a file in the place of ours: its folders are searched in this order."""
    library = f"usr/lib/python{python}"
    if path == f"{library.replace('.', '')}.zip" or path.startswith("usr/local/"):
        return True
    for folder in (library, f"{library}/lib-dynload", SITE):
        if path.startswith(f"{folder}/") and path[len(folder) + 1 :].partition("/")[0].partition(".")[0] in _OURS:
            return True
    return False


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _file(path: str, data: bytes) -> Entry:
    return Entry(path=path, kind=Kind.FILE, data=data)
