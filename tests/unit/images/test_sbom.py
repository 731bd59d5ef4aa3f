"""Bills of materials: held against a library of each format, and the same bytes every time."""

import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from images.lock import ImageLock, known_images, load_lock
from images.sbom import cyclonedx, purl_of, spdx


@pytest.fixture(params=known_images())
def lock(request: pytest.FixtureRequest) -> ImageLock:
    return load_lock(request.param)


def test_a_library_finds_no_fault_with_our_spdx(lock: ImageLock, tmp_path: Path) -> None:
    path = tmp_path / "image.spdx.json"
    path.write_bytes(spdx(lock))
    document = parse_file(str(path))
    assert validate_full_spdx_document(document, "SPDX-2.3") == []
    assert len(document.packages) == len(lock.inputs) + 1


def test_a_library_finds_no_fault_with_our_cyclonedx(lock: ImageLock) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(cyclonedx(lock).decode()) is None


def test_the_libraries_do_find_faults(tmp_path: Path) -> None:
    lock = load_lock("cpu")
    broken = json.loads(cyclonedx(lock))
    broken["components"][0]["type"] = "potion"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(broken)) is not None
    faulty = json.loads(spdx(lock))
    faulty["packages"][1]["checksums"][0]["checksumValue"] = "short"
    path = tmp_path / "image.spdx.json"
    path.write_text(json.dumps(faulty))
    assert validate_full_spdx_document(parse_file(str(path)), "SPDX-2.3")


@pytest.mark.parametrize("form", [spdx, cyclonedx])
def test_equal_locks_give_equal_bytes_and_others_other_identifiers(form: object, lock: ImageLock) -> None:
    assert form(lock) == form(lock)  # type: ignore[operator]
    other = load_lock("cpu" if lock.name == "cuda" else "cuda")
    identifiers = [
        json.loads(form(x)).get("serialNumber") or json.loads(form(x))["documentNamespace"]  # type: ignore[operator]
        for x in (lock, other)
    ]
    assert len(set(identifiers)) == 2


def test_every_input_is_in_both_by_digest(lock: ImageLock) -> None:
    wanted = {i.sha256 for i in lock.inputs}
    packages = json.loads(spdx(lock))["packages"]
    assert wanted <= {c["checksumValue"] for p in packages for c in p["checksums"]}
    components = json.loads(cyclonedx(lock))["components"]
    assert wanted == {c["hashes"][0]["content"] for c in components}


def test_package_urls_have_the_form_that_a_library_gives_them(lock: ImageLock) -> None:
    for item in lock.inputs:
        if item.kind != "source":
            assert PackageURL.from_string(purl_of(item)).to_string() == purl_of(item)


def test_who_requires_whom_is_in_both() -> None:
    lock = load_lock("cpu")
    torch, sympy = (next(i for i in lock.inputs if i.name == n) for n in ("torch", "sympy"))
    assert "torch" in sympy.why
    edges = {d["ref"]: d["dependsOn"] for d in json.loads(cyclonedx(lock))["dependencies"]}
    assert purl_of(sympy) in edges[purl_of(torch)]
    relations = {
        (r["spdxElementId"], r["relatedSpdxElement"])
        for r in json.loads(spdx(lock))["relationships"]
        if r["relationshipType"] == "DEPENDS_ON"
    }
    assert any("wheel-torch-" in a and "wheel-sympy-" in b for a, b in relations)
