"""A format is told by content, in bounded time, whatever the content is."""

import io
import json
import zipfile
from importlib import import_module
from typing import Any

import pytest

sniff_module: Any = import_module("worker.inventory.sniff")
documents: Any = import_module("worker.inventory.documents")
report_module: Any = import_module("worker.inventory.report")
sniff: Any = sniff_module.sniff


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"", "text"),
        (b"plain words\n", "text"),
        (b'{"a": 1}', "json"),
        (b" [1]", "json"),
        (b"{", "text"),
        ("Gr\u00fc\u00dfe".encode(), "text"),
        ("a\u202eb".encode(), "unknown"),
        ("\ud7ff\ue000".encode(), "unknown"),
        (b"a\x1b[2J", "unknown"),
        (b"a\x7f", "unknown"),
        (b"\xff\xfe", "unknown"),
        (b"\x93NUMPY\x01\x00", "npy"),
        (b"ARROW1\0\0", "arrow"),
        (b"PAR1", "parquet"),
        (b"\x7fELF", "elf"),
        (b"\x08\x0a\x12\x00", "onnx"),
        (b"\x08\x0a", "unknown"),
        (b"\x80\x04.", "pickle"),
        (b"cos\nsystem\n.", "pickle"),
        (b"N" * 100_002 + b".", "pickle"),
        (b"N" * 1000, "text"),
        (b"PK\x03\x04", "zip"),
    ],
)
def test_a_format_is_told_by_content(data: bytes, form: str) -> None:
    assert sniff(data) == form
    assert sniff(memoryview(data)) == form


def test_a_control_character_is_seen_wherever_it_stands() -> None:
    long = b"ab cd " * (1 << 19)
    assert sniff(long) == "text"
    assert sniff(long + b"\x1b" + long) == "unknown"


@pytest.mark.parametrize(
    ("limit", "begin", "form"), [("JSON_BYTES_MAX", b"[", "json"), ("TEXT_BYTES_MAX", b"w", "text")]
)
def test_a_document_over_its_limit_is_a_finding_and_not_read(limit: str, begin: bytes, form: str) -> None:
    bytes_max = getattr(sniff_module, limit)
    inventory = {"json": documents.json_inventory, "text": documents.text_inventory}[form]
    for size, ids in ((bytes_max, []), (bytes_max + 1, ["TEXT-LENGTH"])):
        data = begin.ljust(size, b" ")
        assert [f["id"] for f in inventory(data).to_wire()["findings"]] == ids
        assert sniff(data) == (form if ids or form == "text" else "text")  # the shorter one is read, and is no JSON


def test_a_document_deeper_than_any_is_text() -> None:
    assert sniff(b"[" * 100_000) == "text"


def test_members_are_told_by_their_directory_and_not_by_what_they_hold() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        target.writestr("a.npy", b"m/archive_format m/data.pkl m/code/__torch__")
    assert sniff(out.getvalue()) == "npz"
    assert sniff(out.getvalue()[:-1]) == "torchscript"  # no directory: whichever reader it is, it says so


def test_a_report_is_bounded_whatever_it_is_told() -> None:
    report = report_module.Inventory("onnx")
    for number in range(5_000):
        report.use("n" * 1000, f"{number}" * 300, "p" * 1000)
        report.find("ONNX-FORM", "p" * 1000, "d" * 1000)
    wire = report.to_wire()
    assert len(wire["operators"]) <= 1_000
    assert len(wire["findings"]) == 200
    assert len(json.dumps(wire)) < 2 << 20


@pytest.mark.parametrize(
    ("name", "found"), [("n" * 200, []), ("n" * 201, ["OPERATOR-NAME"]), ("\ud800", ["OPERATOR-NAME"])]
)
def test_an_operators_name_is_text_of_some_length(name: str, found: list[str]) -> None:
    report = report_module.Inventory("onnx")
    report.use("", name, "place")
    assert [f["id"] for f in report.to_wire()["findings"]] == found


def test_one_operator_more_than_the_limit_is_a_finding() -> None:
    report = report_module.Inventory("onnx")
    for number in range(1_000):
        report.use("", f"Op{number}", "place")
    report.use("", "Op7", "place")
    assert report.to_wire()["findings"] == []
    report.use("", "Op1000", "place")
    assert [f["id"] for f in report.to_wire()["findings"]] == ["OPERATOR-COUNT"]
