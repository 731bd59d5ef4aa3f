"""The published schemas, held against what is signed, and the documents' examples against the schemas."""

import json
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from executor.release.record import write_record
from executor.release.statements import chain_of
from signing.bundle import parse_bundle
from signing.domain import TRUST_DOCUMENT
from signing.local import LocalTrustDomain
from signing.manifest import OWN_BUNDLES_MAX
from signing.record import verify_record
from signing.verify import verify_release
from tests.unit.signing.approved import approve_files
from tests.unit.signing.conftest import Signed, make_record, make_release
from tests.unit.signing.forging import payload_of

SIGNING = Path(__file__).parents[3] / "signing"


def validate(name: str, document: Any) -> None:
    schema = json.loads((SIGNING / f"schema/{name}.schema.json").read_bytes())
    jsonschema.Draft202012Validator(schema).validate(document)


def refused(name: str, document: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(name, document)


@pytest.mark.parametrize("stage", ["request", "sandbox", "decision", "release"])
def test_what_is_signed_fits_its_schema(signed: Signed, stage: str) -> None:
    predicate = json.loads(payload_of(signed.folder, stage))["predicate"]
    validate(stage, predicate)
    refused(stage, predicate | {"extra": 1})
    refused(stage, predicate | {"parents": [{}] * 9})
    refused(stage, {name: value for name, value in predicate.items() if name != "run_id"})


def test_a_denial_fits_its_schemas(tmp_path: Path, domain: LocalTrustDomain) -> None:
    record = make_record("denied", [("a", "1" * 64, 1)], allowed=False)
    for stage in ("request", "sandbox", "decision"):
        validate(stage, chain_of(record)[stage].predicate)
    write_record(tmp_path, record, signer=domain, now=datetime.now(UTC))
    verified = verify_record(tmp_path, domain.expectations())
    assert verified.stages == ("request", "sandbox", "decision", "summary")
    payload = parse_bundle((tmp_path / "record.json.sigstore.json").read_bytes()).payload
    validate("record", json.loads(payload)["predicate"])


def test_the_trust_document_fits_its_schema(domain: LocalTrustDomain) -> None:
    domain.rotate(now=datetime.now(UTC))
    document = json.loads((domain.folder / TRUST_DOCUMENT).read_bytes())
    validate("trust", document)
    refused("trust", document | {"extra": 1})


def test_the_documented_policy_fits_its_schema() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (SIGNING / "README.md").read_text(), re.DOTALL)
    document = tomllib.loads(
        text.replace('image = "sha256:..."', f'image = "sha256:{"0" * 64}"').replace(
            'policy = "..."', f'policy = "{"0" * 64}"'
        )
    )
    validate("verification-policy", document)
    refused("verification-policy", document | {"extra": 1})
    refused("verification-policy", document | {"signer": []})
    refused("verification-policy", document | {"signer": [{"key": "a", "trust_root": "b"}]})
    refused("verification-policy", document | {"signer": [{"key": ""}]})
    refused("verification-policy", document | {"signer": [{"trust_root": "a", "issuer": "b", "issuer_pattern": "c"}]})
    refused("verification-policy", document | {"release": {"builder": "a", "builder_pattern": "b"}})
    refused("verification-policy", {n: v for n, v in document.items() if n != "reproduced"})
    validate("verification-policy", {n: v for n, v in document.items() if not n.startswith("reproduce")})


def test_the_documented_decision_fits_its_schema() -> None:
    texts = re.findall(r"```json\n(.*?)```", (SIGNING / "FORMAT.md").read_text(), re.DOTALL)
    document = json.loads(re.sub(r'"([0-9a-f]{4})\.\.\."', lambda m: f'"{m[1] * 16}"', texts[0]))
    validate("decision", document["predicate"])


@pytest.mark.parametrize("count", [OWN_BUNDLES_MAX, OWN_BUNDLES_MAX + 1])
def test_artifacts_have_bundles_of_their_own_up_to_a_number(
    tmp_path: Path, domain: LocalTrustDomain, count: int
) -> None:
    gated = approve_files(tmp_path, {f"{i}.txt": b"x%d" % i for i in range(count)})
    release = make_release(tmp_path, domain, "release", gated=gated)
    own = list((release / "attestations").rglob("artifacts/*.sigstore.json"))
    assert len(own) == (count if count <= OWN_BUNDLES_MAX else 0)
    verify_release(release, domain.expectations())
