"""Recognise a format by its content. The name that the job chose says nothing here."""

import io
import json
import zipfile

_ONNX_FIRST_BYTE = 0x08  # field 1 (ir_version), varint: where every ONNX writer begins


def sniff(data: bytes) -> str:
    """Return `onnx`, `torchscript`, `npz`, `zip`, `pickle`, `json`, `text` or `unknown`."""
    if data[:2] == b"PK":
        return _sniff_zip(data)
    if data[:1] == b"\x80":
        return "pickle"
    if data[:1] == bytes([_ONNX_FIRST_BYTE]) and b"\0" in data:
        return "onnx"
    return _sniff_text(data)


def _sniff_zip(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return "unknown"
    tails = [n.partition("/")[2] for n in names]
    if any(t.startswith("code/") for t in tails) and "data.pkl" in tails:
        return "torchscript"
    if names and all(n.endswith(".npy") for n in names):
        return "npz"
    return "zip"


def _sniff_text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "unknown"
    if any(ord(c) < 32 and c not in "\n\r\t" for c in text):
        return "unknown"
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return "text"
    return "json"
