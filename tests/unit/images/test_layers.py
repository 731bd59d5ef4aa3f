"""Layers: ordered by how rarely they change, one form, and no two inputs in each other's way."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from images.errors import LockError, UnsafeEntryError
from images.layers import arrange, compiler_entries, layer_groups
from images.lock import layer_plan, load_lock
from images.store import BlobStore
from images.tar import Entry, Kind
from tests.unit.images.packages import deb, keep, locked

RECIPE = load_lock("cpu").recipe
SITE = "usr/lib/python3/dist-packages"


def os_entries(folder: Path, data: bytes) -> list[Entry]:
    store, item = BlobStore(folder), locked("deb", "p", data)
    keep(store, item, data)
    with ExitStack() as stack:
        groups = layer_groups("os", [item], recipe=RECIPE, store=store, open_files=stack)
    return arrange(e for g in groups for e in g)


def test_the_operating_system_layer_holds_one_executable_and_no_program_else(tmp_path: Path) -> None:
    entries = os_entries(
        tmp_path, deb({"./usr/bin/python3.11": b"py", "./bin/sh": b"sh", "./usr/sbin/x": b"", "./usr/share/man/m": b""})
    )
    programs = [e for e in entries if e.path.startswith(("usr/bin/", "usr/sbin/")) and e.kind is not Kind.DIRECTORY]
    assert [(e.path, e.executable) for e in programs] == [("usr/bin/python3.11", True)]


def test_scanners_find_each_package_and_the_checksums_of_what_is_there(tmp_path: Path) -> None:
    control = "Package: p\nSource: q\nVersion: 1\nDescription: x\n y\n"
    md5sums = "0a  lib/a.so\n0b  usr/share/man/m\n"
    entries = os_entries(tmp_path, deb({"./lib/a.so": b"", "./usr/share/man/m": b""}, control=control, md5sums=md5sums))
    files = {e.path: e.data for e in entries}
    assert files["var/lib/dpkg/status.d/p"].decode() == control.replace("\n", "\nStatus: install ok installed\n", 1)
    assert files["var/lib/dpkg/status.d/p.md5sums"] == b"0a  lib/a.so\n"


def test_the_loader_configuration_that_gpu_hooks_need_is_there(tmp_path: Path) -> None:
    files = {e.path: e for e in os_entries(tmp_path, deb({}))}
    assert files["etc/ld.so.conf"].data == b"include /etc/ld.so.conf.d/*.conf\n"
    assert files["etc/ld.so.conf.d"].kind is Kind.DIRECTORY


def test_no_package_brings_code_that_runs_at_every_start() -> None:
    names = ("a.pth", "sitecustomize.py", "sitecustomize.abi3.so", "sitecustomize/__init__.py", "usercustomize.pyc")
    folders = (SITE, "usr/local/lib/python3.11/dist-packages", "usr/lib/python3.11")
    assert not [f"{f}/{n}" for f in folders for n in names if RECIPE.keeps(f"{f}/{n}")]
    assert not RECIPE.keeps("usr/pyvenv.cfg")
    assert RECIPE.keeps(f"{SITE}/a.py")


def test_two_inputs_that_disagree_on_a_path_are_refused() -> None:
    one, two = (Entry(path="etc/x", kind=Kind.FILE, data=d) for d in (b"1", b"2"))
    assert [e.path for e in arrange([one, one])] == ["etc", "etc/x"]
    with pytest.raises(UnsafeEntryError, match="etc/x"):
        arrange([one, two])


@pytest.mark.parametrize("above", [Entry(path="a", kind=Kind.FILE), Entry(path="a", kind=Kind.SYMLINK, target="b")])
@pytest.mark.parametrize("order", [1, -1])
def test_a_file_or_link_where_another_input_needs_a_directory_is_refused(above: Entry, order: int) -> None:
    with pytest.raises(UnsafeEntryError, match="needs a directory: a"):
        arrange([above, Entry(path="a/b/c", kind=Kind.FILE)][::order])


def test_every_directory_comes_before_what_lies_in_it() -> None:
    entries = [Entry(path=p, kind=Kind.FILE) for p in ("b/c/d", "a", "b-x/y", "b/a")]
    assert [e.path for e in arrange(entries)] == ["a", "b", "b/a", "b/c", "b/c/d", "b-x", "b-x/y"]


def test_layers_are_ordered_by_how_rarely_they_change() -> None:
    for image, names in (("cpu", ["os", "torch", "wheels", "worker"]), ("cuda", None), ("egress", ["os", "worker"])):
        lock = load_lock(image)
        plan = [name for name, _ in layer_plan(lock.recipe, lock.inputs)]
        assert plan == [y.name for y in lock.expect.layers]
        assert names in (None, plan)


def test_each_nvidia_wheel_has_a_layer_of_its_own_below_torch() -> None:
    lock = load_lock("cuda")
    plan = dict(layer_plan(lock.recipe, lock.inputs))
    nvidia = [i.name for i in lock.inputs if i.name.startswith("nvidia-")]
    assert len(nvidia) >= 12
    assert list(plan) == ["os", *nvidia, "triton", "torch", "wheels", "worker"]
    assert all(len(plan[name]) == 1 for name in nvidia)


def test_a_wheel_that_is_called_like_a_layer_of_ours_is_refused() -> None:
    with pytest.raises(LockError, match="called like one of ours"):
        layer_plan(replace(RECIPE, own_layer=("worker",)), [locked("wheel", "worker", b"")])


def test_a_compiler_package_that_is_not_locked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeEntryError, match="libc6"):
        compiler_entries([], recipe=RECIPE, store=BlobStore(tmp_path))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"./{SITE}/.wh.torch", "would remove another one"),
        (f"./{SITE}/torch/.wh..wh..opq", "would remove another one"),
        ("./.wh.etc/x", "would remove another one"),
        (f"./{SITE}/worker/__main__.abi3.so", "in the place of the worker"),
        (f"./{SITE}/worker.py", "in the place of the worker"),
        (f"./{SITE}/tools/x.py", "in the place of the worker"),
        ("./usr/lib/python3.11/worker.so", "in the place of the worker"),
        ("./usr/lib/python3.11/worker/__init__.py", "in the place of the worker"),
        ("./usr/lib/python3.11/lib-dynload/tools.abi3.so", "in the place of the worker"),
        ("./usr/lib/python311.zip", "in the place of the worker"),
        ("./usr/local/lib/python3.11/dist-packages/worker/__init__.py", "in the place of the worker"),
        ("./etc/ld.so.preload", "library for every process"),
        ("./etc/a\x1b[2K", "unprintable"),
        ("./etc/a\nb", "unprintable"),
        ("./etc/\udcff", "unprintable"),
        (f"./etc/{'n' * 256}", "too long"),
    ],
)
def test_what_no_package_may_bring_is_refused_by_name(tmp_path: Path, path: str, words: str) -> None:
    with pytest.raises(UnsafeEntryError, match=words):
        os_entries(tmp_path, deb({path: b"evil"}))


def test_names_beside_those_are_taken(tmp_path: Path) -> None:
    paths = [f"./{SITE}/workers.py", f"./{SITE}/torch/tools/x.py", "./etc/.wh", f"./etc/{'n' * 255}"]
    found = {e.path for e in os_entries(tmp_path, deb(dict.fromkeys(paths, b"")))}
    assert {p.removeprefix("./") for p in paths} <= found
