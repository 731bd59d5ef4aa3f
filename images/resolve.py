"""Write a lock: resolve the definition's roots, and pin everything that they bring by sha256.

Used by people who change an image, never by a run. A lock changes as little as was asked for: the sources of the worker
layer alone, one package, or everything.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from images.apt import IsolatedApt
from images.deb import read_deb
from images.debian import DebRecord
from images.definition import Definition
from images.encoding import sha256_hex
from images.errors import InputError, LockError
from images.inputs import blob_of, read_sources, sha256_of_file
from images.lock import LOCK_BYTES_MAX, SCHEMA, ImageLock, LockedInput, SignedIndex
from images.oci import Image
from images.requirements import Why, deb_reasons, marker_environment, parse_requirement, wheel_reasons
from images.store import Blob, BlobStore
from images.wheel import read_metadata
from images.wheelhouse import MACHINES, pip_download

_INSTALLED = "\nStatus: install ok installed\n"
Resolved = tuple[tuple[LockedInput, ...], tuple[SignedIndex, ...]]


class Resolver:
    """Resolves one definition.

    Args:
        definition: What is wanted.
        store: Where the packages go.
        current: The lock so far, whose inputs are in the store; None resolves everything anew.
        upgrade: The one package to bring to its newest version, or None.
        seen: Signed indexes that an earlier lock was made from: older ones are refused.
    """

    def __init__(
        self,
        definition: Definition,
        store: BlobStore,
        *,
        current: ImageLock | None,
        upgrade: str | None = None,
        seen: Sequence[SignedIndex] = (),
    ) -> None:
        self._definition = definition
        self._store = store
        self._current = current
        self._upgrade = upgrade
        self._seen = (*seen, *(current.indexes if current else ()))

    def resolve(self, checkout: Path) -> Resolved:
        """Return all inputs and the signed indexes that the debs' digests came from. All inputs are in the store.

        Raises:
            SourceError: apt or pip cannot satisfy the definition.
            InputError: An index is not signed as the definition demands, or a download is not what the index names.
            LockError: The package to upgrade is not in the lock, or is pinned by the definition.
        """
        self.check()
        debs, indexes = self._debs()
        wheels = self._wheels(debs)
        return (*debs, *wheels, *self._sources(checkout)), indexes

    def check(self) -> None:
        """Refuse what cannot be done, before anything is fetched for it.

        Raises:
            LockError: The package to upgrade is not in the lock, or is pinned by the definition; or the definition
                changed so that the packages of the lock cannot be kept.
        """
        self._check_upgrade()
        self._check_ground()

    def _check_upgrade(self) -> None:
        if self._upgrade is None:
            return
        current = self._current
        assert current is not None, "one package can only be upgraded in a lock"
        if self._upgrade not in {i.name for i in current.inputs if i.kind != "source"}:
            raise LockError(
                f"image {current.name!r} has no package {self._upgrade!r}", hint="executor image sbom lists them"
            )
        for root in map(parse_requirement, self._definition.roots.wheels):
            pinned = any(s.operator in ("==", "===") and not s.version.endswith("*") for s in root.specifier)
            if canonicalize_name(root.name) == self._upgrade and pinned:
                raise LockError(f"the definition pins {root}", hint=f"edit images/{current.name}.toml, then lock again")

    def _check_ground(self) -> None:
        """Refuse to keep packages that were resolved for another Python, machine, release or set of keys."""
        current, definition = self._current, self._definition
        if current is None:
            return
        old, new = current.recipe, definition.recipe
        changed = [name for name in ("architecture", "python", "glibc") if getattr(old, name) != getattr(new, name)]
        if any(i.suite.partition("-")[0] != definition.release for i in current.indexes):
            changed.append("release")
        if not {s for i in current.indexes for s in i.signers} <= set(definition.signers):
            changed.append("signers")
        if changed:
            raise LockError(
                f"packages of image {current.name!r} were locked under another {changed[0]}",
                hint=f"resolve all anew: executor image lock {current.name} --upgrade",
            )

    def _kind_changes(self, kind: str) -> bool:
        """Tell whether packages of a kind have to be resolved at all."""
        if self._current is None:
            return True
        if any(i.name == self._upgrade for i in self._current.of_kind(kind)):
            return True
        old, new = self._current.roots, self._definition.roots
        return (old.debs != new.debs) if kind == "deb" else (old.wheels != new.wheels)

    def _debs(self) -> tuple[list[LockedInput], tuple[SignedIndex, ...]]:
        current = self._current.of_kind("deb") if self._current else ()
        known = self._current.indexes if self._current else ()
        if not self._kind_changes("deb"):
            return list(current), known
        definition, names = self._definition, {i.name for i in current}
        wanted = [r for r in definition.roots.debs if r not in names]  # others are there, and asking would upgrade them
        wanted += [self._upgrade] if self._upgrade in names else []
        records, indexes = self._chosen(wanted, current) if wanted else ([], [])
        _check_dates(self._seen, indexes)
        found = {i.name: i for i in current} | {r.name: _locked_deb(r) for r in records}
        if absent := [r for r in definition.roots.debs if r not in found]:
            raise LockError(
                f"apt has no package of that very name: {absent[0]}", hint="name a package, not what it provides"
            )
        fields = {n: read_deb(self._store.read(blob_of(i)), name=n).fields for n, i in found.items()}
        reasons = deb_reasons(definition.roots.debs, fields)
        return _with_reasons(found, reasons), _joined(known, indexes)

    def _chosen(
        self, wanted: Sequence[str], current: Sequence[LockedInput]
    ) -> tuple[list[DebRecord], list[SignedIndex]]:
        definition = self._definition
        with IsolatedApt(architecture=definition.recipe.architecture, installed=self._installed(current)) as apt:
            chosen = apt.choose(wanted)
            records, indexes = apt.records(chosen, release=definition.release, signers=definition.signers)
            self._download(apt, records)
        return records, indexes

    def _installed(self, debs: Sequence[LockedInput]) -> str:
        """What apt shall take as installed, so that it changes no more than it must."""
        controls = [read_deb(self._store.read(blob_of(i)), name=i.name).control for i in debs]
        return "\n".join(c.rstrip("\n").replace("\n", _INSTALLED, 1) + "\n" for c in controls)

    def _download(self, apt: IsolatedApt, records: Sequence[DebRecord]) -> None:
        wanted = [r for r in map(_locked_deb, records) if not self._store.has(blob_of(r))]
        if not wanted:
            return
        with tempfile.TemporaryDirectory(prefix="executor-lock-") as scratch:
            apt.download([(i.name, i.version) for i in wanted], Path(scratch))
            found = {sha256_of_file(p): p for p in Path(scratch).iterdir()}
            for item in wanted:
                if item.sha256 not in found:
                    raise LockError(f"apt downloaded another {item} than the signed index names")
                self._store.put_file(blob_of(item), found[item.sha256])

    def _wheels(self, debs: Sequence[LockedInput]) -> list[LockedInput]:
        current = self._current.of_kind("wheel") if self._current else ()
        if not self._kind_changes("wheel"):
            return list(current)
        recipe, roots = self._definition.recipe, self._definition.roots.wheels
        if not roots:
            return []
        _check_python(recipe.python)
        constraints = [f"{i.name}==={i.version}" for i in current if i.name != self._upgrade and _admits(roots, i)]
        with tempfile.TemporaryDirectory(prefix="executor-lock-") as scratch:
            pip_download(
                roots,
                Path(scratch),
                python=recipe.python,
                architecture=recipe.architecture,
                glibc=recipe.glibc,
                constraints=constraints,
            )
            found = {item.name: item for item in map(self._take_wheel, sorted(Path(scratch).iterdir()))}
        interpreter = next((i.version for i in debs if i.name == f"python{recipe.python}"), None)
        if interpreter is None:
            raise LockError(f"the image has no interpreter python{recipe.python}", hint="add it to the Debian roots")
        environment = marker_environment(interpreter.partition("-")[0], MACHINES[recipe.architecture])
        reasons = wheel_reasons(roots, {n: self._metadata(i) for n, i in found.items()}, environment)
        return _with_reasons(found, reasons)

    def _take_wheel(self, path: Path) -> LockedInput:
        try:
            name, version, _build, _tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename as err:
            raise LockError(f"pip downloaded something else than a wheel: {path.name}") from err
        item = LockedInput(
            kind="wheel",
            name=str(name),
            version=str(version),
            filename=path.name,
            size=path.stat().st_size,
            sha256=sha256_of_file(path),
        )
        if not self._store.has(blob_of(item)):
            self._store.put_file(blob_of(item), path)
        path.unlink()  # a CUDA image's wheels are gigabytes
        return item

    def _metadata(self, item: LockedInput) -> str:
        with self._store.open(blob_of(item)) as file:
            return read_metadata(file, name=item.name)

    def _sources(self, checkout: Path) -> list[LockedInput]:
        found = []
        for name, data in read_sources(checkout):
            item = LockedInput(kind="source", name=name, size=len(data), sha256=sha256_hex(data))
            self._store.put(Blob(name=name, sha256=item.sha256, size=item.size), [data])
            found.append(item)
        return found


def lock_bytes(definition: Definition, resolved: Resolved, image: Image) -> bytes:
    """Return the lock file's bytes: one line per input, so that a change reads well in review.

    Raises:
        LockError: It would be larger than a reader takes.
    """
    inputs, indexes = resolved
    roots = definition.roots
    head: dict[str, Any] = {
        "schema": SCHEMA,
        "name": definition.name,
        "expect": {"image_id": image.image_id, "manifest": image.manifest_digest, "layers": "@layers"},
        "roots": {"debs": list(roots.debs), "wheels": list(roots.wheels)},
        "recipe": definition.recipe.to_wire(),
        "indexes": "@indexes",
        "inputs": "@inputs",
    }
    text = json.dumps(head, indent=1, ensure_ascii=False)
    layers = [[y.name, f"sha256:{y.sha256}", y.size] for y in image.layers]
    for name, rows, indent in (
        ("layers", layers, 3),
        ("indexes", [i.to_wire() for i in indexes], 2),
        ("inputs", [i.to_wire() for i in inputs], 2),
    ):
        text = text.replace(f'"@{name}"', _rows(rows, indent))
    data = (text + "\n").encode()
    if len(data) > LOCK_BYTES_MAX:
        raise LockError(f"lock of image {definition.name!r} would have {len(data)} bytes, {LOCK_BYTES_MAX} at most")
    return data


def _rows(rows: Sequence[object], indent: int) -> str:
    lines = ",\n".join(" " * indent + json.dumps(row, separators=(",", ":")) for row in rows)
    return f"[\n{lines}\n{' ' * (indent - 1)}]"


def _locked_deb(record: DebRecord) -> LockedInput:
    return LockedInput(
        kind="deb",
        name=record.name,
        version=record.version,
        arch=record.arch,
        filename=record.filename,
        size=record.size,
        sha256=record.sha256,
        source=record.source,
        suite=record.suite,
    )


def _with_reasons(found: dict[str, LockedInput], reasons: Why) -> list[LockedInput]:
    """Drop what nothing reaches any more, and say why the rest is there."""
    return [replace(found[name], why=reasons[name]) for name in sorted(found) if name in reasons]


def _joined(old: Sequence[SignedIndex], new: Sequence[SignedIndex]) -> tuple[SignedIndex, ...]:
    both = {i.packages_sha256: i for i in (*old, *new)}
    return tuple(sorted(both.values(), key=lambda i: (i.suite, i.packages_sha256)))


def _check_dates(old: Sequence[SignedIndex], new: Sequence[SignedIndex]) -> None:
    """Refuse an index older than one that the lock has seen: a mirror may be behind, or hold security updates back."""
    for index in new:
        for known in old:
            if known.suite == index.suite and _moment(index) < _moment(known):
                raise InputError(
                    f"this machine's mirror is behind the lock: {index.suite} of {index.date}, before {known.date}",
                    hint="try again later, or use another mirror",
                )


def _moment(index: SignedIndex) -> datetime:
    try:
        moment = parsedate_to_datetime(index.date)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment  # apt's dates are in UTC, named or not
    except ValueError as err:
        raise InputError(f"index of {index.suite} has no date: {index.date!r}") from err


def _admits(roots: Sequence[str], item: LockedInput) -> bool:
    """Tell whether the roots still take a wheel in the version that is locked."""
    asked = [r for r in map(parse_requirement, roots) if canonicalize_name(r.name) == item.name]
    return all(r.specifier.contains(item.version, prereleases=True) for r in asked)


def _check_python(wanted: str) -> None:
    """Pip evaluates markers for the Python that runs it, whatever `--python-version` says."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if running != wanted:
        raise LockError(
            f"wheels for Python {wanted} cannot be resolved under Python {running}",
            hint=f"lock with an executor installed under Python {wanted}; building needs no particular one",
        )
