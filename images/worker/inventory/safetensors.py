"""Safetensors: a JSON header and the bytes of the tensors, nothing that runs.

Layout (github.com/huggingface/safetensors, README "Format", read 2026-11): eight bytes with the header's length,
little-endian; the header, a JSON object that begins with a brace and may end in spaces; then the buffer, which the
tensors fill without holes and without overlap. Here the header must also name each tensor once, in plain types of its
own, so that every reader takes the same bytes for the same tensor.
"""

import json
import math
import re
from typing import Any

from worker.inventory.report import FACTS_MAX, Data, Inventory

_HEADER_BYTES_MAX = 8 << 20
_TENSORS_MAX = 100_000
_DIMENSIONS_MAX = 32
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:-]{0,255}")
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64"), 64),
}


def looks_like(data: Data) -> bool:
    """Whether a file begins as one: a length that it has room for, and a brace."""
    return data[8:9] == b"{" and 2 <= int.from_bytes(data[:8], "little") <= len(data) - 8


def inventory(data: Data) -> Inventory:
    """List the tensors of a safetensors file."""
    report = Inventory("safetensors")
    try:
        header, buffer_bytes = _header(data)
        if "__metadata__" in header:
            report.find("ST-METADATA", "__metadata__", "free metadata is not released")
            del header["__metadata__"]
        report.facts = {"tensors": _tensors(header, buffer_bytes)}
    except (ValueError, RecursionError) as err:
        report.find("ST-MALFORMED", "file", f"not one plain safetensors file: {err}")
    return report


def _header(data: Data) -> tuple[dict[str, Any], int]:
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(_HEADER_BYTES_MAX, len(data) - 8):
        raise ValueError("the header is longer than allowed, or than the file")
    text = bytes(data[8 : 8 + size]).decode("ascii")  # a UnicodeDecodeError is a ValueError
    if not text.startswith("{"):
        raise ValueError("the header does not begin with a brace")
    header = json.loads(text, object_pairs_hook=_each_once, parse_float=_refuse, parse_constant=_refuse)
    if not isinstance(header, dict) or len(header) > _TENSORS_MAX:
        raise ValueError(f"the header is no object, or names more than {_TENSORS_MAX} tensors")
    return header, len(data) - 8 - size


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _refuse(text: str) -> Any:
    raise ValueError(f"a number that is no integer: {text[:40]}")


def _tensors(header: dict[str, Any], buffer_bytes: int) -> dict[str, str]:
    spans, shown = [], {}
    for name, entry in header.items():
        if not _NAME.fullmatch(name) or not isinstance(entry, dict):
            raise ValueError(f"not a plain tensor: {name[:80]!r}")
        if set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"other fields than dtype, shape and data_offsets: {name[:80]!r}")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in _BITS or not _are_sizes(shape) or len(shape) > _DIMENSIONS_MAX:
            raise ValueError(f"unknown dtype, or a shape that is none: {name[:80]!r}")
        if not _are_sizes(offsets) or len(offsets) != 2:
            raise ValueError(f"offsets that are none: {name[:80]!r}")
        begin, end = offsets
        if end - begin != math.prod(shape) * _BITS[dtype] // 8:
            raise ValueError(f"dtype and shape do not fit the offsets: {name[:80]!r}")
        spans.append((begin, end))
        shown[name] = f"{dtype}{shape}"
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise ValueError("tensors overlap, or leave a hole")
        position = end
    if position != buffer_bytes:
        raise ValueError("bytes that no tensor accounts for")
    return dict(list(shown.items())[:FACTS_MAX])


def _are_sizes(values: object) -> bool:
    """Whether something is a list of integers of 0 to 2^48."""
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= 1 << 48 for v in values)
