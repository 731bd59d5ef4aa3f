"""NPZ: a ZIP of plain arrays. Headers are read; object arrays, which are pickles, are a finding."""

import io
import zipfile

import numpy
from worker.inventory.report import Inventory

_MEMBERS_MAX = 1000
_BYTES_MAX = 1 << 30


def inventory(data: bytes) -> Inventory:
    """List the arrays of an NPZ file."""
    report = Inventory("npz")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) > _MEMBERS_MAX or len({i.filename for i in infos}) != len(infos):
                report.find("NPZ-MALFORMED", "file", "duplicate members, or too many")
                return report
            if sum(i.file_size for i in infos) > _BYTES_MAX:
                report.find("NPZ-TOO-LARGE", "file", f"over {_BYTES_MAX} bytes unpacked")
                return report
            arrays = {i.filename: _header(report, archive, i) for i in infos}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError) as err:
        report.find("NPZ-MALFORMED", "file", f"not a readable NPZ: {err}")
        return report
    report.facts = {"arrays": arrays}
    return report


def _header(report: Inventory, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    with archive.open(info) as member:
        version = numpy.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"unknown array format version {version} in {info.filename}")
        read = numpy.lib.format.read_array_header_1_0 if version == (1, 0) else numpy.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    if dtype.hasobject:
        report.find("NPZ-OBJECT-ARRAY", info.filename, "an object array is a pickle")
    return f"{dtype}{list(shape)}"
