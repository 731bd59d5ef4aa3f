"""Resolving: a lock changes as little as was asked for."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from images import resolve
from images.debian import DebRecord
from images.definition import Definition, load_definition
from images.errors import InputError, LockError
from images.inputs import blob_of
from images.lock import ImageLock, LockedInput, Roots, SignedIndex
from images.resolve import Resolver
from images.store import BlobStore
from tests.unit.images.packages import SmallImage, deb, locked, wheel

SIGNER = load_definition("cpu").signers[0]


def index(mark: str) -> SignedIndex:
    date = f"Sat, 1{mark} Jul 2026 10:00:00 UTC"
    return SignedIndex(
        suite="bookworm", date=date, release_sha256=mark * 64, packages_sha256=mark * 64, signers=(SIGNER,)
    )


def make_deb(name: str, version: str, depends: str = "") -> bytes:
    return deb({f"./{name}": version.encode()}, control=f"Package: {name}\nVersion: {version}\nDepends: {depends}\n")


class World:
    """apt and pip as a test wants them, and what they were asked."""

    def __init__(self) -> None:
        self.debs: dict[str, tuple[str, bytes]] = {}
        self.wheels: dict[str, tuple[str, bytes]] = {}
        self.installed = ""
        self.wanted: list[str] = []
        self.constraints: list[str] | None = None

    def apt(self, **options: Any) -> "FakeApt":
        self.installed = options["installed"]
        return FakeApt(self)

    def pip(self, _roots: Sequence[str], target: Path, *, constraints: Sequence[str], **_options: Any) -> None:
        self.constraints = list(constraints)
        for name, (version, data) in self.wheels.items():
            (target / f"{name}-{version}-py3-none-any.whl").write_bytes(data)


class FakeApt:
    def __init__(self, world: World) -> None:
        self._world = world

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        return

    def choose(self, packages: Sequence[str]) -> dict[str, str]:
        self._world.wanted = list(packages)
        return {
            n: v
            for n, (v, _) in self._world.debs.items()
            if f"Package: {n}\n" not in self._world.installed or n in packages
        }

    def records(self, chosen: Mapping[str, str], **_options: Any) -> tuple[list[DebRecord], list[SignedIndex]]:
        found = []
        for name, version in sorted(chosen.items()):
            item = locked("deb", name, self._world.debs[name][1], version=version)
            found.append(
                DebRecord(
                    name=name,
                    version=version,
                    arch="amd64",
                    filename=item.filename,
                    size=item.size,
                    sha256=item.sha256,
                    source=name,
                    suite="bookworm-security",
                )
            )
        return found, [index("2")]

    def download(self, packages: Sequence[tuple[str, str]], target: Path) -> None:
        for name, _version in packages:
            (target / name).write_bytes(self._world.debs[name][1])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()
    found.debs = {
        "python3.11": ("3.11.2-6", make_deb("python3.11", "3.11.2-6", "libc6, libssl3")),
        "libc6": ("1", make_deb("libc6", "1")),
        "libssl3": ("1", make_deb("libssl3", "1", "libc6")),
    }
    found.wheels = {
        "torch": ("2.0", wheel_of("torch", "sympy", "idna")),
        "sympy": ("1.0", wheel_of("sympy")),
        "idna": ("3.0", wheel_of("idna")),
    }
    monkeypatch.setattr(resolve, "IsolatedApt", found.apt)
    monkeypatch.setattr(resolve, "pip_download", found.pip)
    return found


def wheel_of(name: str, *requires: str, mark: str = "") -> bytes:
    metadata = f"Name: {name}\n{mark}" + "".join(f"Requires-Dist: {r}\n" for r in requires)
    return wheel({f"{name}-1.dist-info/METADATA": metadata.encode()}, package=name)


@pytest.fixture
def definition() -> Definition:
    return replace(load_definition("cpu"), roots=Roots(debs=("python3.11",), wheels=("torch", "idna")))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("images/worker/a.py", "tools/b.py"):
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    return tmp_path / "checkout"


def locked_by(inputs: Sequence[LockedInput], roots: Roots, folder: Path) -> ImageLock:
    return replace(SmallImage(folder).lock(), inputs=tuple(inputs), roots=roots, indexes=(index("1"),))


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


@pytest.fixture
def current(world: World, definition: Definition, store: BlobStore, checkout: Path, tmp_path: Path) -> ImageLock:
    inputs, _ = Resolver(definition, store, current=None).resolve(checkout)
    world.installed, world.wanted, world.constraints = "", [], None
    return locked_by(inputs, definition.roots, tmp_path / "small")


def versions(inputs: Sequence[LockedInput]) -> dict[str, str]:
    return {i.name: i.version for i in inputs if i.kind != "source"}


def test_a_first_lock_resolves_everything_and_says_why(current: ImageLock) -> None:
    assert versions(current.inputs) == {
        "libc6": "1",
        "libssl3": "1",
        "python3.11": "3.11.2-6",
        "idna": "3.0",
        "sympy": "1.0",
        "torch": "2.0",
    }
    assert {i.name: i.why for i in current.inputs if i.kind != "source"} == {
        "libc6": ("libssl3", "python3.11"),
        "libssl3": ("python3.11",),
        "python3.11": ("root",),
        "idna": ("root", "torch"),
        "sympy": ("torch",),
        "torch": ("root",),
    }
    assert [i.name for i in current.inputs if i.kind == "source"] == ["images/worker/a.py", "tools/b.py"]


def test_a_lock_without_upgrade_asks_neither_apt_nor_pip_and_takes_new_sources(
    world: World, definition: Definition, store: BlobStore, checkout: Path, current: ImageLock
) -> None:
    world.debs["libc6"] = ("2", make_deb("libc6", "2"))
    (checkout / "tools/b.py").write_text("edited")
    inputs, indexes = Resolver(definition, store, current=current).resolve(checkout)
    assert (world.wanted, world.constraints) == ([], None)
    assert versions(inputs) == versions(current.inputs)
    assert indexes == current.indexes
    assert {a.name for a, b in zip(inputs, current.inputs, strict=True) if a != b} == {"tools/b.py"}


def test_one_deb_is_upgraded_alone(
    world: World, definition: Definition, store: BlobStore, checkout: Path, current: ImageLock
) -> None:
    world.debs = {"libssl3": ("2", make_deb("libssl3", "2", "libc6")), "libc6": ("9", make_deb("libc6", "9"))}
    inputs, indexes = Resolver(definition, store, current=current, upgrade="libssl3").resolve(checkout)
    assert world.wanted == ["libssl3"]
    assert world.installed.count("Status: install ok installed") == 3
    assert versions(inputs) == versions(current.inputs) | {"libssl3": "2"}
    assert [i.packages_sha256[0] for i in indexes] == ["1", "2"]
    assert world.constraints is None
    assert all(store.has(blob_of(i)) for i in inputs)


def test_a_package_that_nothing_requires_any_more_leaves(
    world: World, definition: Definition, store: BlobStore, checkout: Path, current: ImageLock
) -> None:
    world.debs = {"python3.11": ("3.11.2-7", make_deb("python3.11", "3.11.2-7", "libc6"))}
    inputs, _ = Resolver(definition, store, current=current, upgrade="python3.11").resolve(checkout)
    assert "libssl3" not in versions(inputs)


def test_one_wheel_is_upgraded_alone(
    world: World,
    definition: Definition,
    store: BlobStore,
    checkout: Path,
    current: ImageLock,
) -> None:
    world.wheels["sympy"] = ("1.1", wheel_of("sympy", mark="Summary: new\n"))
    inputs, _ = Resolver(definition, store, current=current, upgrade="sympy").resolve(checkout)
    assert world.constraints == ["idna===3.0", "torch===2.0"]
    assert versions(inputs) == versions(current.inputs) | {"sympy": "1.1"}
    assert world.wanted == []


def test_a_root_that_no_longer_takes_its_locked_version_moves_alone(
    world: World, definition: Definition, store: BlobStore, checkout: Path, current: ImageLock
) -> None:
    newer = replace(definition, roots=replace(definition.roots, wheels=("torch==2.1", "idna")))
    world.wheels["torch"] = ("2.1", wheel_of("torch", "sympy", "idna", mark="Summary: new\n"))
    inputs, _ = Resolver(newer, store, current=current).resolve(checkout)
    assert world.constraints == ["idna===3.0", "sympy===1.0"]
    assert versions(inputs) == versions(current.inputs) | {"torch": "2.1"}


def test_what_is_not_in_the_lock_cannot_be_upgraded(
    definition: Definition, store: BlobStore, checkout: Path, current: ImageLock
) -> None:
    for name in ("absent", "tools/b.py"):
        with pytest.raises(LockError, match="has no package"):
            Resolver(definition, store, current=current, upgrade=name).resolve(checkout)


def test_what_the_definition_pins_cannot_be_upgraded_behind_its_back(
    definition: Definition, store: BlobStore, checkout: Path, current: ImageLock
) -> None:
    pinned = replace(definition, roots=replace(definition.roots, wheels=("torch==2.0", "idna")))
    with pytest.raises(LockError, match="the definition pins torch==2"):
        Resolver(pinned, store, current=current, upgrade="torch").resolve(checkout)


def test_wheels_are_resolved_under_the_images_python_only(
    world: World, definition: Definition, store: BlobStore, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(definition, recipe=replace(definition.recipe, python="3.99"))
    with pytest.raises(LockError, match=f"cannot be resolved under Python 3.{sys.version_info.minor}"):
        Resolver(other, store, current=None).resolve(checkout)


def test_a_download_that_the_signed_index_does_not_name_is_refused(
    world: World, definition: Definition, store: BlobStore, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(_self: FakeApt, packages: Sequence[tuple[str, str]], target: Path) -> None:
        for name, _version in packages:
            (target / name).write_bytes(b"evil")

    monkeypatch.setattr(FakeApt, "download", download)
    with pytest.raises(LockError, match="another deb"):
        Resolver(definition, store, current=None).resolve(checkout)


def test_a_new_root_comes_in_whatever_else_is_upgraded(
    world: World, definition: Definition, store: BlobStore, checkout: Path, current: ImageLock
) -> None:
    more = replace(definition, roots=replace(definition.roots, debs=("python3.11", "libnew")))
    world.debs = {"libnew": ("1", make_deb("libnew", "1")), "libssl3": ("2", make_deb("libssl3", "2", "libc6"))}
    inputs, _ = Resolver(more, store, current=current, upgrade="libssl3").resolve(checkout)
    assert world.wanted == ["libnew", "libssl3"]
    assert versions(inputs) == versions(current.inputs) | {"libnew": "1", "libssl3": "2"}
    inputs, _ = Resolver(more, store, current=current, upgrade="sympy").resolve(checkout)
    assert world.wanted == ["libnew"]


def test_a_root_that_left_takes_what_only_it_required_with_it(
    world: World, definition: Definition, store: BlobStore, checkout: Path, current: ImageLock
) -> None:
    fewer = replace(definition, roots=replace(definition.roots, debs=("python3.11", "libc6")))
    Resolver(fewer, store, current=current).resolve(checkout)
    assert world.wanted == [], "both are there already"


def test_a_root_that_is_no_package_is_refused(
    world: World, definition: Definition, store: BlobStore, checkout: Path, current: ImageLock
) -> None:
    virtual = replace(definition, roots=replace(definition.roots, debs=("python3.11", "awk")))
    world.debs = {"mawk": ("1", make_deb("mawk", "1"))}
    with pytest.raises(LockError, match="no package of that very name: awk"):
        Resolver(virtual, store, current=current).resolve(checkout)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda d: replace(d, recipe=replace(d.recipe, architecture="arm64")), "architecture"),
        (lambda d: replace(d, recipe=replace(d.recipe, python="3.12")), "python"),
        (lambda d: replace(d, recipe=replace(d.recipe, glibc="2.28")), "glibc"),
        (lambda d: replace(d, release="trixie"), "release"),
        (lambda d: replace(d, signers=("B" * 40,)), "signers"),
    ],
)
def test_packages_that_were_locked_on_other_ground_are_not_kept(
    definition: Definition, store: BlobStore, checkout: Path, current: ImageLock, change: Any, what: str
) -> None:
    with pytest.raises(LockError, match=f"under another {what}"):
        Resolver(change(definition), store, current=current).resolve(checkout)


def test_a_mirror_that_is_behind_the_lock_is_refused(
    world: World, definition: Definition, store: BlobStore, checkout: Path, current: ImageLock
) -> None:
    world.debs = {"libssl3": ("2", make_deb("libssl3", "2", "libc6"))}
    ahead = replace(current, indexes=(index("3"),))
    with pytest.raises(InputError, match="behind the lock: bookworm of Sat, 12 Jul"):
        Resolver(definition, store, current=ahead, upgrade="libssl3").resolve(checkout)
    with pytest.raises(InputError, match="behind the lock"):
        Resolver(definition, store, current=None, seen=(index("3"),)).resolve(checkout)
    for date in ("", "yesterday"):
        undated = replace(current, indexes=(replace(index("1"), date=date),))
        with pytest.raises(InputError, match="has no date"):
            Resolver(definition, store, current=undated, upgrade="libssl3").resolve(checkout)


def test_a_root_without_a_pin_can_be_upgraded(
    world: World, definition: Definition, store: BlobStore, checkout: Path, current: ImageLock
) -> None:
    loose = replace(definition, roots=replace(definition.roots, wheels=("torch>=1", "idna")))
    world.wheels["torch"] = ("2.1", wheel_of("torch", "sympy", "idna", mark="Summary: new\n"))
    inputs, _ = Resolver(loose, store, current=current, upgrade="torch").resolve(checkout)
    assert versions(inputs)["torch"] == "2.1"


def test_what_cannot_be_understood_is_refused_and_not_a_crash(
    world: World, definition: Definition, store: BlobStore, checkout: Path
) -> None:
    def refused(changed: Definition, words: str) -> None:
        with pytest.raises(LockError, match=words):
            Resolver(changed, store, current=None).resolve(checkout)

    refused(replace(definition, roots=replace(definition.roots, wheels=("torch = 2",))), "not a requirement")
    world.wheels["idna"] = ("3.0", wheel_of("idna", "not a ! requirement"))
    refused(definition, "not a requirement")
    world.debs = {"libc6": ("1", make_deb("libc6", "1"))}
    refused(replace(definition, roots=replace(definition.roots, debs=("libc6",))), "no interpreter")
