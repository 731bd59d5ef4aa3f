"""A trust domain and a signed release for the signing tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from executor.canonical import digest_of
from executor.release.gate import Approved
from executor.release.publish import release
from executor.release.stage import ReleaseContent
from executor.release.statements import chain_of, parents, stamp
from executor.run.provenance import BUILD_TYPE
from signing.evidence import Expectations
from signing.local import LocalTrustDomain, open_or_create
from signing.signer import Signer
from tests.unit.signing.approved import approved

POLICY = "5" * 64
IMAGE = "7" * 64
BUILDER = "urn:sealed-executor:builder:runc:network-none:v1"


@dataclass(frozen=True)
class Signed:
    """A release with what it takes to verify it."""

    folder: Path
    domain: LocalTrustDomain
    expect: Expectations


@pytest.fixture
def domain(tmp_path: Path) -> LocalTrustDomain:
    return open_or_create(tmp_path / "trust", now=datetime.now(UTC))


def expectations(domain: LocalTrustDomain) -> Expectations:
    return domain.expectations()


@pytest.fixture
def signed(tmp_path: Path, domain: LocalTrustDomain) -> Signed:
    return Signed(make_release(tmp_path, domain, "release"), domain, expectations(domain))


def make_record(run_id: str, artifacts: Sequence[tuple[str, str, int]], *, allowed: bool = True) -> dict[str, Any]:
    """What the pipeline would have recorded of a run: artifacts are (name, sha256, size)."""
    plan = {
        "kind": "script",
        "name": "job",
        "seed": 1,
        "image": {"name": "cpu", "id": f"sha256:{IMAGE}"},
        "inputs": {},
        "plugins": {},
        "code": None,
        "policy": {"profile": "standard", "sha256": POLICY},
    }
    return {
        "run_id": run_id,
        "plan": plan,
        "status": "released" if allowed else "denied",
        "finished": "2026-11-24T10:00:00+00:00",
        "outcome": {"kind": "succeeded"},
        "usage": {"cpu_seconds": 1.5},
        "sandbox": {"host_config_sha256": "3" * 64},
        "artifacts": [{"name": n, "role": "data", "size": s, "sha256": d} for n, d, s in artifacts],
        "decision": {
            "schema": "executor.decision/v1",
            "allowed": allowed,
            "profile": "standard",
            "policy_sha256": POLICY,
            "plan_sha256": digest_of(plan),
            "artifacts": {n: d for n, d, _ in artifacts},
            "findings": [] if allowed else [{"rule": "OP-NOT-ALLOWED", "evidence": "9" * 64}],
        },
    }


def make_content(run_id: str, gated: Approved, *, also_oms: bool = False) -> ReleaseContent:
    record = make_record(run_id, [(a.name, a.sha256, a.size) for a in gated.artifacts])
    chain = chain_of(record)
    request, *after = parents("provenance", chain)
    moment = stamp(datetime.now(UTC))
    provenance = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"policy": record["plan"]["policy"]},
            "internalParameters": {},
            "resolvedDependencies": [
                request,
                {"name": "image", "uri": "pkg:oci/cpu", "digest": {"sha256": IMAGE}},
                {"name": "policy", "digest": {"sha256": POLICY}},
            ],
        },
        "runDetails": {
            "builder": {"id": BUILDER},
            "metadata": {"invocationId": run_id, "startedOn": moment, "finishedOn": moment},
            "byproducts": after,
        },
    }
    formats = {a.name: "text" for a in gated.artifacts}
    return ReleaseContent(
        record=record,
        chain=chain,
        formats=formats,
        details={"seed": 1},
        provenance=provenance,
        also_oms=also_oms,
    )


def make_release(
    tmp_path: Path, signer: Signer, name: str, *, gated: Approved | None = None, also_oms: bool = False
) -> Path:
    gated = gated or approved(tmp_path)
    target = tmp_path / name
    release(
        gated,
        make_content(name, gated, also_oms=also_oms),
        target=target,
        signer=signer,
        now=lambda: datetime.now(UTC),
        before_naming=lambda _: None,
    )
    return target
