"""Libraries read without being loaded: what one says of itself, and headers that do not hold together."""

import struct
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

elf: Any = import_module("worker.inventory.elf")

BASE = 0x1000


def library(
    *,
    names: tuple[bytes, ...] = (b"liba.so", b"libc.so.6", b"malloc", b"RegisterCustomOps"),
    entries: tuple[tuple[int, int], ...] = (),
    kind: int = 3,
    machine: int = 62,
    dynamics: int = 1,
    end: bool = True,
    strings_size: int | None = None,
    strings_address: int | None = None,
    note: bytes = b"",
    symbols: tuple[tuple[int, int], ...] = ((2, 0), (3, 1)),
) -> bytes:
    """Return the smallest library: a SONAME, one NEEDED, and symbols as (index of its name, section)."""
    strings, at = b"\0", []
    for name in names:
        at.append(len(strings))
        strings += name + b"\0"
    table = bytes(24) + b"".join(struct.pack("<IBBHQQ", at[i], 0x12, 0, section, 0, 0) for i, section in symbols)
    table += b"\xff" * 24  # what is no symbol
    count = 2 + dynamics
    offset = 64 + count * 56
    layout = {"strings": offset, "symbols": offset + len(strings)}
    dynamic_at = layout["symbols"] + len(table)
    dynamic = [
        (14, at[0]),
        (1, at[1]),
        (5, strings_address if strings_address is not None else BASE + layout["strings"]),
        (10, strings_size if strings_size is not None else len(strings)),
        (6, BASE + layout["symbols"]),
        *entries,
    ]
    raw = b"".join(struct.pack("<qQ", *entry) for entry in dynamic) + (struct.pack("<qQ", 0, 0) if end else b"")
    note_at = dynamic_at + len(raw)
    size = note_at + len(note)
    segments = [struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 4096)]
    segments += [struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, 0, 0, len(raw), len(raw), 8)] * dynamics
    segments += [struct.pack("<IIQQQQQQ", 4, 4, note_at, 0, 0, len(note), len(note), 4)]
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", kind, machine, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0
    )
    return header + b"".join(segments) + strings + table + raw + note


def facts(data: bytes) -> dict[str, Any]:
    wire = elf.inventory(data).to_wire()
    assert wire["findings"] == [], wire
    found: dict[str, Any] = wire["facts"]
    return found


def test_a_library_says_what_it_is_called_and_what_it_needs() -> None:
    note = struct.pack("<3I", 4, 3, 3) + b"GNU\0" + b"\x01\x02\x03\0"
    found = facts(library(note=note))
    assert found["soname"] == "liba.so"
    assert found["needed"] == ["libc.so.6"]
    assert found["undefined"] == ["malloc"]
    assert found["build_id"] == "010203"
    assert found["abi"] == "onnxruntime"


@pytest.mark.parametrize(
    ("symbol", "section", "abi"),
    [
        (b"_ZN3c104warnERKNS_7WarningE", 0, "torch-minor"),
        (b"_ZNK2at6Tensor3addERKS0_", 0, "torch-minor"),
        (b"_ZN5torch3jit4loadEv", 0, "torch-minor"),
        (b"_ZN3c104warnERKNS_7WarningE", 1, "none"),
        (b"aoti_torch_get_dim", 0, "torch-stable"),
        (b"torch_library_impl", 0, "torch-stable"),
        (b"malloc", 0, "none"),
        (b"RegisterCustomOps", 0, "none"),
        (b"RegisterCustomOps", 1, "onnxruntime"),
    ],
)
def test_the_abi_is_told_by_the_symbols(symbol: bytes, section: int, abi: str) -> None:
    data = library(names=(b"liba.so", b"libc.so.6", symbol), symbols=((2, section),))
    assert facts(data)["abi"] == abi


def test_the_systems_own_tools_say_the_same(tmp_path: Path) -> None:
    source, built = tmp_path / "a.c", tmp_path / "liba.so"
    source.write_text("int RegisterCustomOps(void) { return 0; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libb.so.1", "-o", built, source], check=True)
    found = facts(built.read_bytes())
    said = subprocess.run(["readelf", "-dn", built], capture_output=True, text=True, check=True).stdout
    assert f"[{found['soname']}]" in said
    assert all(f"[{name}]" in said for name in found["needed"])
    assert found["build_id"] in said
    assert found["abi"] == "onnxruntime"


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF",
        library(kind=2),
        library(machine=183),
        library()[:4] + b"\x01" + library()[5:],
        library(dynamics=0),
        library(dynamics=2),
        library(end=False),
        library(strings_size=1 << 40),
        library(strings_address=0),
        library(strings_address=1 << 40),
        library(names=(b"lib a.so", b"libc.so.6", b"malloc", b"x")),
        library(names=(b"l" * 5000, b"libc.so.6", b"malloc", b"x")),
        library(entries=((1, 1 << 40),)),
        library(entries=((15, 1),)),
        library(entries=((29, 1),)),
        library(entries=((0x6FFFFEFC, 1),)),
        library(entries=((0x7FFFFFFF, 1),)),
    ],
)
def test_headers_that_do_not_hold_together_are_a_finding(data: bytes) -> None:
    assert [f["id"] for f in elf.inventory(data).to_wire()["findings"]] == ["ELF-MALFORMED"]


def test_a_name_that_does_not_end_is_found_for_itself() -> None:
    for data in (library(entries=((1, 1 << 40),)), library(names=(b"l" * 5000, b"libc.so.6", b"malloc", b"x"))):
        (finding,) = elf.inventory(data).to_wire()["findings"]
        assert "a name that does not end, or lies outside of the table" in finding["detail"]
