"""Recognise a format by its content. The name that the job chose says nothing here."""

import json
import re
import unicodedata

from worker.inventory.opcodes import instructions
from worker.inventory.report import Data
from worker.inventory.safetensors import looks_like as looks_like_safetensors
from worker.inventory.zip_layout import member_names

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
_PICKLE_OPCODES_MAX = 100_000
_CHUNK_BYTES = 1 << 20
TEXT_BYTES_MAX = 64 << 20
JSON_BYTES_MAX = 8 << 20  # what it becomes in memory is up to twenty times as much
# C0 but for tab, line feed and carriage return, and DEL: they steer terminals.
_CONTROL = bytes(b for b in range(128) if (b < 32 and b not in b"\t\n\r") or b == 127)
_JSON_BEGINS = re.compile(rb"[ \t\r\n]*[\[{]")


def sniff(data: Data) -> str:
    """Return the name of the format, `unknown` where it is none of those that are known here.

    Known are `onnx`, `torchscript`, `pt2`, `checkpoint`, `npz`, `zip`, `npy`, `arrow`, `parquet`, `safetensors`, `elf`,
    `pickle`, `json` and `text`, and some that are told by their first bytes alone, which no reader of ours takes.
    """
    if data[:2] == b"PK":
        return _sniff_zip(data)
    for mark, name in _MARKS:
        if data[: len(mark)] == mark:
            return name
    if looks_like_safetensors(data):
        return "safetensors"
    if data[:1] == b"\x80" or _is_active_pickle(data):
        return "pickle"
    if data[:1] == _ONNX_FIRST_BYTE and b"\0" in bytes(data[:_CHUNK_BYTES]):
        return "onnx"
    return _sniff_text(data)


def _sniff_zip(data: Data) -> str:
    """Tell by the members' names; where no plain directory has them, by the raw bytes.

    The format's own reader then insists on one reading of the archive.
    """
    names = member_names(data)
    raw = "\n".join(names).encode() if names is not None else bytes(data)
    if b"/data.pkl" in raw and b"/code/__torch__" in raw:
        return "torchscript"
    if b"/archive_format" in raw:
        return "pt2"
    if b"/data.pkl" in raw:
        return "checkpoint"
    return "npz" if b".npy" in raw else "zip"


def _is_active_pickle(data: Data) -> bool:
    """Whether the bytes are a pickle, of the text protocol too, that would import or call something.

    What is a pickle for longer than anybody wants to read counts as one.
    """
    found = False
    try:
        for count, (opcode, _, _) in enumerate(instructions(data)):
            found = found or opcode.name in _PICKLE_ACTIONS
            if count > _PICKLE_OPCODES_MAX:
                return True
    except (ValueError, IndexError, KeyError, OverflowError):
        return False
    return found


def _sniff_text(data: Data) -> str:
    begin = bytes(data[:_CHUNK_BYTES])
    if len(begin.translate(None, _CONTROL)) != len(begin):
        return "unknown"
    is_json = bool(_JSON_BEGINS.match(begin))
    if len(data) > (JSON_BYTES_MAX if is_json else TEXT_BYTES_MAX):
        return "json" if is_json else "text"  # which of the two then says that it is too long
    whole = bytes(data)
    if len(whole.translate(None, _CONTROL)) != len(whole):
        return "unknown"
    try:
        text = whole.decode()
    except UnicodeDecodeError:
        return "unknown"
    # Format characters turn text around; the rest of category C is no text at all.
    if not text.isascii() and any(unicodedata.category(c)[0] == "C" and c not in "\n\r\t" for c in set(text)):
        return "unknown"
    try:
        if len(text) <= JSON_BYTES_MAX:
            json.loads(text)
            return "json"
    except (ValueError, RecursionError):
        pass
    return "text"
