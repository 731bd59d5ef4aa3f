"""NPZ: a ZIP of plain arrays.

Headers are read; object arrays, which are pickles, and headers that promise more than their member holds, which a
reader would allocate, are findings.
"""

import io
import math
import re

import numpy
from worker.inventory.report import Inventory
from worker.inventory.zip_layout import read_members

_BYTES_MAX = 1 << 30
_MEMBER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.npy")


def inventory(data: bytes) -> Inventory:
    """List the arrays of an NPZ file."""
    report = Inventory("npz")
    try:
        members = read_members(data, unpacked_bytes_max=_BYTES_MAX, deflated=True)
        report.facts = {"arrays": {name: _array(report, name, content) for name, content in members.items()}}
    except ValueError as err:
        report.find("NPZ-MALFORMED", "file", f"not a plain NPZ: {err}")
    return report


def _array(report: Inventory, name: str, content: bytes) -> str:
    if not _MEMBER.fullmatch(name):
        raise ValueError(f"member name is not that of an array: {name}")
    stream = io.BytesIO(content)
    version = numpy.lib.format.read_magic(stream)
    readers = {(1, 0): numpy.lib.format.read_array_header_1_0, (2, 0): numpy.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"unknown array format version {version} in {name}")
    shape, _, dtype = readers[version](stream)
    if dtype.hasobject:
        report.find("NPZ-OBJECT-ARRAY", name, "an object array is a pickle")
    elif math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"array header of {name} does not fit its member")
    return f"{dtype}{list(shape)}"
