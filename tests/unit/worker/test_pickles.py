"""Pickles read without being loaded: every global that one would import is named, or its hiding is a finding."""

import collections
import io
import os
import pickle
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pickles: Any = import_module("worker.inventory.pickles")
sniff: Any = import_module("worker.inventory.sniff").sniff


class Fires:
    """Makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


def seen(data: bytes) -> tuple[set[str], list[str]]:
    report = pickles.inventory(data).to_wire()
    return {o["name"] for o in report["operators"]}, [f["id"] for f in report["findings"]]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_a_pickle_would_call_is_named_and_it_does_fire(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps({"weights": [1.0], "x": Fires(tmp_path / "fired")}, protocol=protocol)
    names, findings = seen(data)
    assert names == {"posix.mkdir"}
    assert findings == []
    assert not (tmp_path / "fired").exists()
    pickle.loads(data)
    assert (tmp_path / "fired").exists()  # the corpus is real
    assert sniff(data) == "pickle"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_global_of_an_honest_pickle_is_named(protocol: int) -> None:
    value = collections.OrderedDict(a=complex(1, 2), b=Path("x"), c=[frozenset({1}), {"k": 3}])
    names, findings = seen(pickle.dumps([value, value, "collections", "OrderedDict"], protocol=protocol))
    assert "collections.OrderedDict" in names
    assert {name.rpartition(".")[2] for name in names} >= {"OrderedDict", "complex"}
    assert findings == []


def test_a_dotted_name_through_a_trusted_module_is_named_whole() -> None:
    assert seen(b"\x80\x04\x8c\x13torch.serialization\x8c\tos.system\x93.")[0] == {"torch.serialization.os.system"}


@pytest.mark.parametrize(
    ("data", "finding"),
    [
        (b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x01x0\x93.", "PICKLE-HIDDEN-NAME"),  # a third string, popped
        (b"\x80\x04\x8c\x02os\x8c\x06system2\x93.", "PICKLE-HIDDEN-NAME"),  # duplicated
        (b"\x80\x04\x8c\x06system\x93.", "PICKLE-HIDDEN-NAME"),
        (b"\x80\x04\x93.", "PICKLE-HIDDEN-NAME"),
        (b"\x80\x04\x8c\x02os\x94]\x94h\x01h\x00\x93.", "PICKLE-HIDDEN-NAME"),  # the memo's second is a list
        (b"\x80\x02\x82\x01.", "PICKLE-OPCODE"),
        (b"Pid\n.", "PICKLE-OPCODE"),
        (b"\x80\x04N.tail", "PICKLE-TAIL"),
        (b"\x80\x04N", "PICKLE-MALFORMED"),
        (b"\x80\x04\xff.", "PICKLE-MALFORMED"),
        (b"", "PICKLE-MALFORMED"),
    ],
)
def test_what_hides_a_name_is_a_finding(data: bytes, finding: str) -> None:
    assert seen(data) == (set(), [finding])


def test_a_name_got_from_the_memo_is_named() -> None:
    data = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93."
    assert seen(data) == ({"os.system"}, [])


def test_a_memo_that_is_written_over_counts_as_it_stands_then() -> None:
    data = b"\x80\x02X\x04\x00\x00\x00mathq\x00X\x02\x00\x00\x00osq\x00X\x06\x00\x00\x00systemq\x01h\x00h\x01\x93."
    assert seen(data) == ({"os.system"}, [])


def test_instructions_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "_OPCODES_MAX", 10)
    assert seen(b"\x80\x04" + b"N0" * 4 + b"N.") == (set(), [])
    assert seen(b"\x80\x04" + b"N0" * 5 + b"N.") == (set(), ["PICKLE-LENGTH"])


def archive(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


STATE = pickle.dumps(collections.OrderedDict(), protocol=2)


def test_a_checkpoint_is_its_pickle_and_bytes(tmp_path: Path) -> None:
    data = archive(("m/data.pkl", STATE), ("m/data/0", b"1234"), ("m/version", b"3\n"), ("m/byteorder", b"little"))
    report = pickles.checkpoint_inventory(data).to_wire()
    assert sniff(data) == "checkpoint"
    assert [o["name"] for o in report["operators"]] == ["collections.OrderedDict"]
    assert report["findings"] == []
    evil = pickles.checkpoint_inventory(archive(("m/data.pkl", pickle.dumps(Fires(tmp_path / "x"))))).to_wire()
    assert [o["name"] for o in evil["operators"]] == ["posix.mkdir"]


@pytest.mark.parametrize(
    ("data", "finding"),
    [
        (archive(("m/data.pkl", STATE), ("m/code/run.py", b"")), "CKPT-UNEXPECTED-MEMBER"),
        (archive(("m/data.pkl", STATE), ("m/bytecode.pkl", STATE)), "CKPT-UNEXPECTED-MEMBER"),
        (archive(("m/data.pkl", STATE), ("n/data/0", b"")), "CKPT-MALFORMED"),
        (archive(("m/data.pkl", STATE)) + b"x", "CKPT-MALFORMED"),
        (b"\x80\x04N." + archive(("m/data.pkl", STATE)), "CKPT-MALFORMED"),
    ],
)
def test_what_torch_save_does_not_write_is_a_finding(data: bytes, finding: str) -> None:
    assert finding in [f["id"] for f in pickles.checkpoint_inventory(data).to_wire()["findings"]]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"ARROW1\0\0rest", "arrow"),
        (b"PAR1rest", "parquet"),
        (b"\x89HDF\r\n\x1a\nrest", "hdf5"),
        (b"\x1f\x8b\x08rest", "gzip"),
        (b"\x7fELF\x02", "elf"),
        (b"\x93NUMPY\x01\x00", "npy"),
        (archive(("m/archive_format", b"pt2"), ("m/models/model.json", b"{}")), "pt2"),
        (archive(("m/data.pkl", STATE), ("m/code/__torch__.py", b"")), "torchscript"),
        (archive(("a.npy", b"")), "npz"),
        (archive(("a.txt", b"")), "zip"),
    ],
)
def test_formats_are_told_by_content(data: bytes, name: str) -> None:
    assert sniff(data) == name
