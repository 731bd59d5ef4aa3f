"""Manifest, statement and encodings: one form each."""

from typing import Any

import pytest

from signing.encoding import canonical_json, decode_base64, parse_canonical_json
from signing.manifest import Manifest, ManifestFile, parse_manifest
from signing.statement import Statement, parse_statement

FILE: dict[str, Any] = {
    "path": "artifacts/a",
    "size": 1,
    "sha256": "0" * 64,
    "media_type": "text/plain",
    "role": "data",
}


def file(**change: Any) -> ManifestFile:
    return ManifestFile(**FILE | change)


def test_a_manifest_survives_its_own_form() -> None:
    manifest = Manifest(run_id="r", files=(file(),), details={"a": 1})
    assert parse_manifest(manifest.to_bytes()) == manifest


def test_checksums_are_what_sha256sum_reads() -> None:
    text = Manifest(run_id="r", files=(file(),), details={}).checksums().decode()
    assert text.splitlines()[0] == "0" * 64 + "  artifacts/a"
    assert text.splitlines()[1].endswith("  manifest.json")


@pytest.mark.parametrize(
    "path",
    [
        "/a",
        "../a",
        "a/../b",
        ".git/config",
        "a//b",
        "a/",
        "",
        "a\nb",
        "manifest.json",
        "SHA256SUMS",
        "a.sigstore.json",
        "attestations/x",
    ],
)
def test_a_path_that_no_release_has_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        file(path=path)


@pytest.mark.parametrize("change", [{"sha256": "0" * 63}, {"sha256": "A" * 64}, {"size": -1}])
def test_a_malformed_entry_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="malformed"):
        file(**change)


def test_an_empty_unordered_or_repeating_manifest_is_refused() -> None:
    for files in ((), (file(path="b"), file(path="a")), (file(), file())):
        with pytest.raises(ValueError, match="at least one file"):
            Manifest(run_id="r", files=files, details={})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"schema": "executor.manifest/v2", "run_id": "r", "files": [FILE], "details": {}},
        {"schema": "executor.manifest/v1", "run_id": "r", "files": [FILE], "details": {}, "extra": 1},
        {"schema": "executor.manifest/v1", "run_id": "r", "files": [FILE | {"mode": 1}], "details": {}},
        {"schema": "executor.manifest/v1", "run_id": "r", "files": [], "details": {}},
        [],
    ],
)
def test_another_document_is_no_manifest(document: object) -> None:
    with pytest.raises(ValueError, match="manifest"):
        parse_manifest(canonical_json(document))


def test_a_statement_survives_its_own_form_and_needs_a_subject() -> None:
    statement = Statement(subjects={"a": "0" * 64}, predicate_type="urn:x", predicate={})
    assert parse_statement(statement.to_bytes()) == statement
    with pytest.raises(ValueError, match="without subjects"):
        Statement(subjects={}, predicate_type="urn:x", predicate={})


@pytest.mark.parametrize("text", ["QQ", "QQ==\n", "QR==", "Q Q=", "é", "QQ=", "-_=="])
def test_base64_has_one_form(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        decode_base64(text)


@pytest.mark.parametrize(
    "data", [b'{"a":1,"a":1}', b'{ "a":1}', b'{"b":1,"a":1}', b'{"a":1.0e0}', b"{}\n", b"", b"\xff"]
)
def test_json_has_one_form(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_canonical_json(data)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"details":{}', '"details": {}'),
        ('"run_id":"r"', '"run_id":"x","run_id":"r"'),
        ('"size":1', '"size":1.0'),
        ('"size":1', '"size":true'),
        ('"role":"data"', '"role":7'),
        ('"media_type":"text/plain"', '"media_type":[]'),
        ('"role":"data"', '"role":"d\\u0061ta"'),
        ('"mode":"0644"', '"mode":"0755"'),
        ('"type":"file"', '"type":"link"'),
        ('"details":{}', '"details":{},"more":1'),
        ('"role":"data"', '"role":"data","more":1'),
        ("manifest/v2", "manifest/v1"),
    ],
)
def test_a_manifest_has_one_form(old: str, new: str) -> None:
    text = Manifest(run_id="r", files=(file(),), details={}).to_bytes().decode()
    assert old in text
    with pytest.raises(ValueError):
        parse_manifest(text.replace(old, new, 1).encode())


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("manifest/v2", "manifest/v1", "this version"),
        ('"details":{}', '"details":{},"more":1', "this version"),
        ('"mode":"0644"', '"mode":"0755"', "one mode only"),
        ('"type":"file"', '"type":"link"', "regular files"),
    ],
)
def test_what_is_no_manifest_is_refused_for_what_it_is(old: str, new: str, why: str) -> None:
    text = Manifest(run_id="r", files=(file(),), details={}).to_bytes().decode()
    with pytest.raises(ValueError, match=why):
        parse_manifest(text.replace(old, new, 1).encode())


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("Statement/v1", "Statement/v0.1", "not an in-toto"),
        ('"predicateType"', '"more":1,"predicateType"', "not an in-toto"),
        ('[{"digest"', '[{"digest":{"sha256":"' + "0" * 64 + '"},"name":"a"},{"digest"', "stands twice"),
    ],
)
def test_what_is_no_statement_is_refused_for_what_it_is(old: str, new: str, why: str) -> None:
    text = Statement(subjects={"a": "0" * 64}, predicate_type="urn:x", predicate={}).to_bytes().decode()
    assert old in text
    with pytest.raises(ValueError, match=why):
        parse_statement(text.replace(old, new, 1).encode())
