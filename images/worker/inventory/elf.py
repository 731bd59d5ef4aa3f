"""Native libraries: what one is called, what it needs, and which ABI it is bound to. Read, never loaded.

Everything is read as the dynamic loader reads it, by way of the program headers and the dynamic section; section
headers, which tools go by and the loader does not, are not looked at. Layout: ELF-64 Object File Format 1.5, System V
gABI.
"""

import re
import struct
from collections.abc import Iterator

from worker.inventory.report import FACTS_MAX, Data, Inventory

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_IDENT = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian, version 1
_SHARED, _X86_64 = 3, 62
_LOAD, _DYNAMIC_SEGMENT, _NOTE = 1, 2, 4
_DT_NEEDED, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SONAME = 1, 5, 6, 10, 14
_DT_RPATH, _DT_RUNPATH, _DT_AUDIT, _DT_DEPAUDIT, _DT_FILTER, _DT_AUXILIARY = (
    *(15, 29, 0x6FFFFEFC, 0x6FFFFEFB, 0x7FFFFFFF, 0x7FFFFFFD),
)
_SEARCHES = {_DT_RPATH: "RPATH", _DT_RUNPATH: "RUNPATH", _DT_AUDIT: "AUDIT", _DT_DEPAUDIT: "DEPAUDIT"}
_SEARCHES |= {_DT_FILTER: "FILTER", _DT_AUXILIARY: "AUXILIARY"}
_TABLE_MAX = 200_000
_NAME_MAX = 4096
_TORCH_CPLUSPLUS = re.compile(rb"_Z\w*(?:3c10|2at|5torch)\d")
_TORCH_SHIM = re.compile(rb"(?:aoti_torch_|torch_)\w+")
_BUILD_ID = 3


def inventory(data: Data) -> Inventory:
    """List what a shared library says of itself."""
    report = Inventory("elf")
    try:
        _read(report, memoryview(data))
    except (ValueError, struct.error) as err:
        report.find("ELF-MALFORMED", "file", f"not one plain library for x86-64: {err}")
    return report


def _read(report: Inventory, data: memoryview) -> None:
    header = _HEADER.unpack_from(data)
    if header[0][:7] != _IDENT or header[1] != _SHARED or header[2] != _X86_64 or header[9] != _PROGRAM.size:
        raise ValueError("another kind of file")
    segments = [_PROGRAM.unpack_from(data, header[5] + index * _PROGRAM.size) for index in range(header[10])]
    loads = [(s[3], s[2], s[5]) for s in segments if s[0] == _LOAD]
    dynamic = [s for s in segments if s[0] == _DYNAMIC_SEGMENT]
    if len(dynamic) != 1:
        raise ValueError("not one dynamic section")
    entries = list(_entries(data, dynamic[0][2], dynamic[0][5]))
    single = dict(entries)
    names = _Names(data, _offset(loads, single.get(_DT_STRTAB, 0)), single.get(_DT_STRSZ, 0))
    symbols = list(_symbols(data, _offset(loads, single.get(_DT_SYMTAB, 0)), names))
    undefined = sorted({name for name, defined in symbols if not defined and name})
    exported = {name for name, defined in symbols if defined}
    report.facts = {
        "soname": names.text(single[_DT_SONAME]) if _DT_SONAME in single else "",
        "needed": [names.text(value) for tag, value in entries if tag == _DT_NEEDED],
        "abi": _abi(undefined, exported),
        "build_id": _build_id(data, [s for s in segments if s[0] == _NOTE]),
        "undefined": [name.decode("ascii", "backslashreplace")[:200] for name in undefined[:FACTS_MAX]],
        "size_bytes": len(data),
    }
    for tag, name in _SEARCHES.items():
        if tag in single:
            report.find("ELF-MALFORMED", name, "asks the loader for libraries of places of its own")


def _entries(data: memoryview, offset: int, size: int) -> Iterator[tuple[int, int]]:
    for position in range(offset, offset + min(size, _TABLE_MAX * _DYNAMIC.size), _DYNAMIC.size):
        tag, value = _DYNAMIC.unpack_from(data, position)
        if tag == 0:
            return
        yield tag, value
    raise ValueError("the dynamic section does not end")


def _offset(loads: list[tuple[int, int, int]], address: int) -> int:
    """Return where in the file an address comes from."""
    for start, offset, size in loads:
        if start <= address < start + size:
            return address - start + offset
    raise ValueError("an address that nothing is loaded at")


class _Names:
    """The table of names."""

    def __init__(self, data: memoryview, offset: int, size: int) -> None:
        if offset + size > len(data):
            raise ValueError("the names lie outside of the file")
        self._data = bytes(data[offset : offset + size])

    def raw(self, index: int) -> bytes:
        end = self._data.find(b"\0", index)
        if not 0 <= index < len(self._data) or end < 0 or end - index > _NAME_MAX:
            raise ValueError("a name that does not end, or lies outside of the table")
        return self._data[index:end]

    def text(self, index: int) -> str:
        name = self.raw(index)
        if not re.fullmatch(rb"[\x21-\x7e]{1,255}", name):
            raise ValueError("a library's name is not plain text")
        return name.decode("ascii")


def _symbols(data: memoryview, offset: int, names: _Names) -> Iterator[tuple[bytes, bool]]:
    """Yield names and whether they are defined, up to what is no symbol: the table has no length of its own."""
    for index in range(_TABLE_MAX):
        position = offset + index * _SYMBOL.size
        if position + _SYMBOL.size > len(data):
            return
        name, info, _, section, _, _ = _SYMBOL.unpack_from(data, position)
        if info >> 4 not in (0, 1, 2, 10) or info & 0xF > 10:
            return
        try:
            yield names.raw(name), section != 0
        except ValueError:
            return


def _abi(undefined: list[bytes], exported: set[bytes]) -> str:
    if any(_TORCH_CPLUSPLUS.match(name) for name in undefined):
        return "torch-minor"
    if any(_TORCH_SHIM.match(name) for name in undefined):
        return "torch-stable"
    return "onnxruntime" if b"RegisterCustomOps" in exported else "none"


def _build_id(data: memoryview, notes: list[tuple[int, ...]]) -> str:
    for note in notes:
        position, end = note[2], note[2] + note[5]
        while position + 12 <= min(end, len(data)):
            name, size, kind = struct.unpack_from("<3I", data, position)
            content = position + 12 + (name + 3) // 4 * 4
            if kind == _BUILD_ID and bytes(data[position + 12 : position + 16]) == b"GNU\0":
                return bytes(data[content : content + min(size, 64)]).hex()
            position = content + (size + 3) // 4 * 4
    return ""
