"""Recognise a format by its content. The name that the job chose says nothing here."""

import json
import pickletools
import unicodedata

from worker.inventory.safetensors import looks_like as looks_like_safetensors

_MARKS = (
    (b"ARROW1\0\0", "arrow"),
    (b"PAR1", "parquet"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x1f\x8b", "gzip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x7fELF", "elf"),
    (b"\x93NUMPY", "npy"),
)
_ONNX_FIRST_BYTE = b"\x08"  # field 1 (ir_version), varint: where every ONNX writer begins
_PICKLE_ACTIONS = {"GLOBAL", "STACK_GLOBAL", "INST", "REDUCE", "BUILD", "OBJ", "NEWOBJ", "NEWOBJ_EX"}


def sniff(data: bytes) -> str:
    """Return the name of the format, `unknown` where it is none of those that are known here.

    Known are `onnx`, `torchscript`, `pt2`, `checkpoint`, `npz`, `zip`, `safetensors`, `pickle`, `json` and `text`, and
    some that are told by their first bytes alone, which no reader of ours takes.
    """
    if data[:2] == b"PK":
        return _sniff_zip(data)
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    if looks_like_safetensors(data):
        return "safetensors"
    if data[:1] == b"\x80" or _is_active_pickle(data):
        return "pickle"
    if data[:1] == _ONNX_FIRST_BYTE and b"\0" in data:
        return "onnx"
    return _sniff_text(data)


def _sniff_zip(data: bytes) -> str:
    """Tell by a member's name in the raw bytes: the format's own reader then insists on one reading of the archive."""
    if b"/data.pkl" in data and b"/code/__torch__" in data:
        return "torchscript"
    if b"/archive_format" in data:
        return "pt2"
    if b"/data.pkl" in data:
        return "checkpoint"
    return "npz" if b".npy" in data else "zip"


def _is_active_pickle(data: bytes) -> bool:
    """Whether the bytes are a pickle, of the text protocol too, that would import or call something."""
    found = False
    try:
        for opcode, _, _ in pickletools.genops(data):
            found = found or opcode.name in _PICKLE_ACTIONS
    except (ValueError, IndexError, KeyError, OverflowError):
        return False
    return found


def _sniff_text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "unknown"
    # Control and format characters steer terminals and turn text around.
    if any(unicodedata.category(c)[0] == "C" and c not in "\n\r\t" for c in set(text)):
        return "unknown"
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return "text"
    return "json"
