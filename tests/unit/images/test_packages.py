"""Packages: what may not be in an image is refused by name, and nothing of them runs."""

import hashlib
import tarfile
from pathlib import Path

import pytest

from images import inputs
from images.deb import merged, read_deb
from images.definition import load_definition
from images.errors import InputError, UnsafeEntryError
from images.inputs import InputStore, fetch_missing
from images.layers import arrange, layer_plan, os_entries
from images.lock import LockedInput, load_lock
from images.tar import Entry, Kind
from images.wheel import SITE, read_wheel
from tests.unit.images.packages import deb, special, wheel


def locked(kind: str, name: str, data: bytes) -> LockedInput:
    return LockedInput(
        kind=kind,
        name=name,
        version="1",
        filename=f"{name}.{kind}",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        why="root",
    )


def test_a_deb_is_read_with_merged_paths_and_without_modes() -> None:
    data = deb({"./bin/sh": b"x", "./lib/a.so": b"y", "./etc/z": b"z"})
    assert [(e.path, e.executable) for e in read_deb(data, name="p")] == [
        ("usr/bin/sh", False),
        ("usr/lib/a.so", False),
        ("etc/z", False),
    ]


@pytest.mark.parametrize(
    "entry",
    [special("./d", tarfile.CHRTYPE), special("./d", tarfile.BLKTYPE), special("./d", tarfile.FIFOTYPE)],
)
def test_a_special_file_in_a_deb_is_refused(entry: tarfile.TarInfo) -> None:
    with pytest.raises(UnsafeEntryError, match="special file"):
        list(read_deb(deb({"d": entry}), name="p"))


def test_a_path_that_leaves_the_root_is_refused() -> None:
    with pytest.raises(UnsafeEntryError, match="leaves the root"):
        list(read_deb(deb({"./a/../../b": b""}), name="p"))


@pytest.mark.parametrize("data", [b"", b"PK", b"!<arch>\n", deb({}, member="data.tar.zst")])
def test_what_is_no_readable_deb_is_refused(data: bytes) -> None:
    with pytest.raises(UnsafeEntryError):
        list(read_deb(data, name="p"))


def test_only_top_level_folders_are_merged() -> None:
    assert [merged(p) for p in ("lib/x", "usr/lib/x", "libexec/x", "opt/lib/x")] == [
        "usr/lib/x",
        "usr/lib/x",
        "libexec/x",
        "opt/lib/x",
    ]


def test_a_wheel_is_read_in_order_and_without_its_scripts() -> None:
    data = wheel({"p/b.py": b"", "p/a.py": b"x", "p-1.data/scripts/run": b"#!", "p-1.data/purelib/c.py": b"c"})
    assert [e.path for e in read_wheel(data, name="p")] == [
        f"{SITE}/c.py",
        f"{SITE}/p-1.dist-info/RECORD",
        f"{SITE}/p/a.py",
        f"{SITE}/p/b.py",
    ]


@pytest.mark.parametrize(
    ("files", "record", "words"),
    [
        ({"p/a.py": b"evil"}, {"p/a.py": b"good"}, "differs from RECORD"),
        ({"p/a.py": b"", "p/b.py": b""}, {"p/a.py": b""}, "not in RECORD"),
        ({"../a.py": b""}, None, "unsafe path"),
        ({"p//a.py": b""}, None, "unsafe path"),
        ({"/a.py": b""}, None, "unsafe path"),
    ],
)
def test_a_wheel_that_is_not_its_record_is_refused(
    files: dict[str, bytes], record: dict[str, bytes] | None, words: str
) -> None:
    with pytest.raises(UnsafeEntryError, match=words):
        list(read_wheel(wheel(files, record=record), name="p"))


def test_one_flipped_byte_in_a_cached_input_is_refused_by_name(tmp_path: Path) -> None:
    data = deb({"./a": b"x"})
    item, store = locked("deb", "libc6", data), InputStore(tmp_path)
    (tmp_path / "f").write_bytes(data)
    store.put(item, tmp_path / "f")
    assert store.read(item) == data
    store.path(item).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match="deb libc6 1"):
        store.read(item)


def test_a_fetched_file_of_other_bytes_is_refused_and_not_kept(tmp_path: Path) -> None:
    item, store = locked("wheel", "torch", b"good"), InputStore(tmp_path)
    (tmp_path / "f").write_bytes(b"evil")
    with pytest.raises(InputError, match="wheel torch 1"):
        store.put(item, tmp_path / "f")
    assert not store.path(item).exists()


def test_only_what_the_store_lacks_is_fetched_and_a_substitute_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def download(_definition: object, wanted: list[str], target: Path, *, with_dependencies: bool) -> None:
        assert not with_dependencies
        asked.append(wanted)
        (target / "a.whl").write_bytes(b"good")

    monkeypatch.setattr(inputs, "pip_download", download)
    good, other = locked("wheel", "good", b"good"), locked("wheel", "other", b"other")
    store, definition = InputStore(tmp_path), load_definition("cpu")
    assert fetch_missing(definition, [good], store) == 1
    assert fetch_missing(definition, [good], store) == 0
    assert asked == [["good==1"]]
    with pytest.raises(InputError, match="wheel other 1"):
        fetch_missing(definition, [good, other], store)


def test_the_operating_system_layer_holds_one_executable_and_no_program_else(tmp_path: Path) -> None:
    data = deb({"./usr/bin/python3.11": b"py", "./bin/sh": b"sh", "./usr/sbin/x": b"", "./usr/share/man/m": b""})
    item, store = locked("deb", "p", data), InputStore(tmp_path)
    (tmp_path / "f").write_bytes(data)
    store.put(item, tmp_path / "f")
    entries = os_entries(load_definition("cpu"), [item], store)
    programs = [e for e in entries if e.path.startswith(("usr/bin/", "usr/sbin/")) and e.kind is not Kind.DIRECTORY]
    assert [(e.path, e.executable) for e in programs] == [("usr/bin/python3.11", True)]
    assert "var/lib/dpkg/status.d/p" in {e.path for e in entries}


def test_two_inputs_that_disagree_on_a_path_are_refused() -> None:
    one, two = (Entry(path="etc/x", kind=Kind.FILE, data=d) for d in (b"1", b"2"))
    definition = load_definition("cpu")
    assert [e.path for e in arrange([one, one], definition)] == ["etc", "etc/x"]
    with pytest.raises(UnsafeEntryError, match="etc/x"):
        arrange([one, two], definition)


def test_every_directory_comes_before_what_lies_in_it() -> None:
    entries = [Entry(path=p, kind=Kind.FILE) for p in ("b/c/d", "a", "b-x/y", "b/a")]
    assert [e.path for e in arrange(entries, load_definition("cpu"))] == [
        "a",
        "b",
        "b/a",
        "b/c",
        "b/c/d",
        "b-x",
        "b-x/y",
    ]


def test_layers_are_ordered_by_how_rarely_they_change() -> None:
    names = [name for name, _ in layer_plan(load_definition("cpu"), load_lock("cpu").inputs)]
    assert names == ["os", "torch", "wheels"]
    assert [n for n, _ in load_lock("cpu").expect.layers] == ["os", "torch", "wheels", "worker"]
