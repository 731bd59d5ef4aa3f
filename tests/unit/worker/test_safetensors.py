"""Safetensors: one reading, or a finding."""

import json
from importlib import import_module
from typing import Any

import pytest

inventory: Any = import_module("worker.inventory.safetensors").inventory
sniff: Any = import_module("worker.inventory.sniff").sniff

TENSORS = {
    "a.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "I64", "shape": [], "data_offsets": [16, 24]},
    "empty": {"dtype": "BF16", "shape": [0, 7], "data_offsets": [24, 24]},
}


def plain(header: object = TENSORS, *, buffer: bytes = bytes(24), pad: int = 3) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * pad
    return len(text).to_bytes(8, "little") + text + buffer


def found(data: bytes) -> list[str]:
    return [finding["id"] for finding in inventory(data).to_wire()["findings"]]


def test_what_the_format_says_is_read() -> None:
    report = inventory(plain()).to_wire()
    assert report["findings"] == report["operators"] == []
    assert report["facts"] == {"tensors": {"a.weight": "F32[2, 2]", "b": "I64[]", "empty": "BF16[0, 7]"}}
    assert sniff(plain()) == "safetensors"


def test_the_length_that_begins_like_onnx_is_no_onnx() -> None:
    text = json.dumps(TENSORS).encode()
    padded = plain(pad=8 + (8 - len(text)) % 256)
    assert padded[0] == 0x10
    for size in range(256):
        data = plain(pad=size)
        assert sniff(data) == "safetensors"


def test_free_metadata_is_a_finding() -> None:
    assert found(plain({**TENSORS, "__metadata__": {"path": "/home/somebody"}})) == ["ST-METADATA"]


def entry(**change: Any) -> dict[str, Any]:
    return {**TENSORS, "b": {**TENSORS["b"], **change}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02\0\0\0\0\0\0",
        plain()[:-1],
        plain() + b"x",
        plain(b"[]"),
        plain(b" {}"),
        plain(b"{"),
        plain(json.dumps(TENSORS).encode().replace(b'"b"', b'"a.weight"')),
        plain(json.dumps(TENSORS).encode().replace(b'"dtype": "I64"', b'"dtype": "I64", "dtype": "U64"')),
        plain('{"é": 1}'.encode()),
        plain(entry(dtype="F128")),
        plain(entry(dtype=["F32"])),
        plain(entry(shape=[-1])),
        plain(entry(shape=[1.0])),
        plain(entry(shape=[True])),
        plain(entry(shape=[2])),
        plain(entry(shape=[1 << 49])),
        plain(entry(shape=[1] * 33)),
        plain(entry(shape=7)),
        plain(entry(data_offsets=[15, 23])),
        plain(entry(data_offsets=[17, 25])),
        plain(entry(data_offsets=[24, 16])),
        plain(entry(data_offsets=[16])),
        plain(entry(data_offsets=[0, 8])),
        plain(entry(surprise=1)),
        plain({**TENSORS, "b": [1]}),
        plain({**TENSORS, "../b": TENSORS["empty"]}),
        plain({**TENSORS, "b\n": TENSORS["empty"]}),
        plain({"a.weight": TENSORS["a.weight"]}),
        plain(b"[" * 100_000),
        plain(b'{"a":' * 100_000),
        plain(json.dumps(TENSORS).encode().replace(b"16, 24", b"NaN, 24")),
        (1 << 62).to_bytes(8, "little") + b"{}",
    ],
)
def test_anything_that_two_readers_could_take_differently_is_refused(data: bytes) -> None:
    assert found(data) == ["ST-MALFORMED"]


def test_dimensions_up_to_the_limit_pass() -> None:
    assert found(plain(entry(shape=[1] * 32))) == []


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "longer than allowed"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "longer than allowed"),
        (plain(b" {}"), "does not begin with a brace"),
        (plain(entry(shape=[1.0])), "a number that is no integer"),
        (plain(json.dumps(TENSORS).encode().replace(b"16, 24", b"NaN, 24")), "a number that is no integer"),
        (plain(entry(data_offsets=[16])), "offsets that are none"),
        (plain(entry(data_offsets=["16", 24])), "offsets that are none"),
        (plain({**TENSORS, "b": [1]}), "not a plain tensor"),
    ],
)
def test_each_fault_is_found_for_itself(data: bytes, detail: str) -> None:
    (finding,) = inventory(data).to_wire()["findings"]
    assert detail in finding["detail"]


def test_a_file_may_name_so_many_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("worker.inventory.safetensors")
    monkeypatch.setattr(module, "_TENSORS_MAX", 3)
    assert found(plain()) == []
    monkeypatch.setattr(module, "_TENSORS_MAX", 2)
    assert found(plain()) == ["ST-MALFORMED"]
