"""The skeleton of an ONNX file: large tensors out, all else as it is, odd spellings refused."""

from importlib import import_module
from typing import Any

import pytest

skeleton: Any = import_module("worker.inventory.onnx_skeleton").skeleton

LARGE = bytes(range(256)) * 400


def number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(tag: int, payload: bytes) -> bytes:
    return number(tag << 3 | 2) + number(len(payload)) + payload


def model(raw: bytes, *, before: bytes = b"\x08\x0a", after: bytes = b"") -> bytes:
    graph = field(1, b"node") + field(5, b"\x08\x01" + field(8, b"w") + field(9, raw)) + field(2, b"name")
    return before + field(7, graph) + after


def test_large_tensors_are_cut_and_nothing_else() -> None:
    assert skeleton(model(LARGE, after=b"\x28\x07")) == model(LARGE[:16], after=b"\x28\x07")


@pytest.mark.parametrize("raw", [b"", b"short", bytes(4000)])
def test_a_small_file_is_its_own_skeleton(raw: bytes) -> None:
    assert skeleton(model(raw)) == model(raw)


def test_large_bytes_elsewhere_are_kept() -> None:
    data = field(14, LARGE) + field(7, field(10, LARGE) + field(5, field(4, LARGE) + field(9, b"x")))
    assert skeleton(data) == data


@pytest.mark.parametrize(
    "data",
    [
        b"\x3a\x80",  # a length that does not end
        b"\x3a\x7f",  # a length beyond the file
        b"\x3b",  # groups
        b"\xff" * 12,
        b"\x09\x00",  # eight bytes that are not there
        b"\x3a" + number(len(LARGE))[:-1] + bytes([number(len(LARGE))[-1] | 0x80, 0]) + LARGE,  # a longer spelling
        b"\xba\x00" + number(len(LARGE)) + LARGE,  # the same of the field's number
    ],
)
def test_what_is_not_plain_protobuf_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"field|length|number|wire|spelling"):
        skeleton(data)


def test_a_longer_spelling_is_refused_for_itself() -> None:
    size = number(len(LARGE))
    longer = b"\x3a" + size[:-1] + bytes([size[-1] | 0x80, 0]) + LARGE
    with pytest.raises(ValueError, match="shortest spelling"):
        skeleton(longer)
    with pytest.raises(ValueError, match="shortest spelling"):
        skeleton(b"\xba\x00" + size + LARGE)
