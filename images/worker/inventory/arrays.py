"""NPY and NPZ: one plain array, or a ZIP of them.

Headers are read; object arrays, which are pickles, and headers that promise another size than there is, which a reader
would allocate, are findings. Layout: numpy.lib.format, versions 1.0 and 2.0.
"""

import io
import math
import re
from typing import Any

import numpy
from worker.inventory.report import FACTS_MAX, Data, Inventory
from worker.inventory.zip_layout import read_members

_BYTES_MAX = 1 << 30
_HEADER_BYTES_MAX = 64 << 10
_MEMBER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.npy")


def npz_inventory(data: Data) -> Inventory:
    """List the arrays of an NPZ file."""
    report = Inventory("npz")
    try:
        members = read_members(data, unpacked_bytes_max=_BYTES_MAX, deflated=True)
        arrays = {name: _array(report, "NPZ-OBJECT-ARRAY", name, m.head, m.size) for name, m in members.items()}
        report.facts = {"arrays": dict(list(arrays.items())[:FACTS_MAX])}
        if stray := [name for name in members if not _MEMBER.fullmatch(name)]:
            raise ValueError(f"member name is not that of an array: {stray[0]}")
    except ValueError as err:
        report.find("NPZ-MALFORMED", "file", f"not a plain NPZ: {err}")
    return report


def npy_inventory(data: Data) -> Inventory:
    """List the array of an NPY file."""
    report = Inventory("npy")
    try:
        report.facts = {"array": _array(report, "NPY-OBJECT-ARRAY", "file", memoryview(data), len(data))}
    except ValueError as err:
        report.find("NPY-MALFORMED", "file", f"not a plain NPY: {err}")
    return report


def _array(report: Inventory, object_array: str, name: str, head: memoryview, size: int) -> str:
    stream = io.BytesIO(head[:_HEADER_BYTES_MAX])
    version = numpy.lib.format.read_magic(stream)
    readers = {(1, 0): numpy.lib.format.read_array_header_1_0, (2, 0): numpy.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"unknown array format version {version} in {name}")
    try:
        shape, fortran, dtype = readers[version](stream)
    except ValueError as err:  # whose message is not always the same
        raise ValueError(f"array header of {name} does not parse") from err
    if _spelling(shape, fortran, dtype) != _header_text(head, version):
        raise ValueError(f"array header of {name} is not as numpy writes it")
    if dtype.hasobject:
        report.find(object_array, name, "an object array is a pickle")
    elif math.prod(shape) * dtype.itemsize != size - stream.tell():
        raise ValueError(f"array header of {name} does not fit its bytes")
    return f"{dtype}{list(shape)}"[:200]


def _header_text(head: memoryview, version: tuple[int, int]) -> str:
    start = 10 if version == (1, 0) else 12
    length = int.from_bytes(head[8:start], "little")
    return bytes(head[start : start + length]).decode("latin-1").rstrip(" \n")


def _spelling(shape: tuple[int, ...], fortran: bool, dtype: numpy.dtype[Any]) -> str:
    """Return a header as numpy's writer spells it, which leaves no room for a comment or a second key."""
    descr = numpy.lib.format.dtype_to_descr(dtype)
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran!r}, 'shape': {shape!r}, }}"
