"""What is signed about a run, made from what its record says: request, sandbox, decision, and what follows. Pure.

The record of a run and the release that it made hold the same statements, because both make them here from the same
values. Forms are in signing/FORMAT.md.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from executor import __version__
from executor.canonical import digest_of
from signing.chain import PARENTS_OF, PREDICATE_OF, input_attestation, parent, profile_uri, run_uri, verified_level
from signing.encoding import canonical_json, sha256_hex
from signing.manifest import ARTIFACTS, DECISION, PLAN
from signing.statement import Statement

VERIFIER_ID = "urn:sealed-executor:verifier:v1"
SLSA_VERSION = "1.1"
Chain = dict[str, Statement]


def chain_of(record: Mapping[str, Any]) -> Chain:
    """Return the statements of a run by stage, as far as it came.

    Args:
        record: The run's record, or as much of it as there is. A run whose job never started has a request alone; one
            that failed has no decision; a denied one has a summary that says so.
    """
    chain: Chain = {"request": _request(record)}
    if "outcome" in record:
        chain["sandbox"] = _sandbox(record, chain)
    if "decision" in record:
        chain["decision"] = _decision(record, chain)
        if not record["decision"]["allowed"]:
            chain["summary"] = summary(record, chain, subjects=_artifacts(record), verified=_finished(record))
    return chain


def summary(record: Mapping[str, Any], chain: Chain, *, subjects: Mapping[str, str], verified: datetime) -> Statement:
    """Return the verification summary (slsa.dev/spec/v1.1/verification_summary): PASSED, or FAILED for a denial.

    Args:
        record: With the decision.
        chain: The statements that it is based on: all of them.
        subjects: What was decided on.
        verified: When.
    """
    decision = record["decision"]
    level = verified_level(decision["profile"])
    predicate = {
        "verifier": {"id": VERIFIER_ID, "version": {"sealed-executor": __version__}},
        "timeVerified": stamp(verified),
        "resourceUri": run_uri(record["run_id"]),
        "policy": {
            "uri": profile_uri(decision["profile"]),
            "digest": {"sha256": decision["policy_sha256"]},
        },
        "inputAttestations": [input_attestation(statement) for statement in chain.values()],
        "verificationResult": "PASSED" if decision["allowed"] else "FAILED",
        "verifiedLevels": [level] if decision["allowed"] else ["FAILED"],
        "slsaVersion": SLSA_VERSION,
    }
    return Statement(subjects=subjects, predicate_type=PREDICATE_OF["summary"], predicate=predicate)


def parents(stage: str, chain: Chain) -> list[dict[str, Any]]:
    """Return how a stage's statement names those before it."""
    return [parent(name, chain[name]) for name in PARENTS_OF[stage]]


def stamp(moment: datetime) -> str:
    """Return a time as SLSA's predicates have it (RFC 3339)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _request(record: Mapping[str, Any]) -> Statement:
    plan = record["plan"]
    asked = ("kind", "name", "seed", "image", "inputs", "plugins", "code", "policy")
    known = {name: plan[name] for name in asked if name in plan}  # the plan may be of an earlier executor, which died
    return _own("request", record, {PLAN: digest_of(plan)}, known, {})


def _sandbox(record: Mapping[str, Any], chain: Chain) -> Statement:
    facts = {
        "outcome": record["outcome"],
        "usage": record["usage"],
        "sandbox": record["sandbox"],
        "egress": record.get("egress"),
        "artifacts": record["artifacts"],
    }
    return _own("sandbox", record, _artifacts(record), facts, chain)


def _decision(record: Mapping[str, Any], chain: Chain) -> Statement:
    decision = record["decision"]
    subjects = _artifacts(record) | {DECISION: sha256_hex(canonical_json(decision))}
    return _own("decision", record, subjects, {"decision": decision}, chain)


def _own(
    stage: str, record: Mapping[str, Any], subjects: Mapping[str, str], facts: Mapping[str, Any], chain: Chain
) -> Statement:
    predicate = {"run_id": record["run_id"], "parents": parents(stage, chain), **facts}
    return Statement(subjects=subjects, predicate_type=PREDICATE_OF[stage], predicate=predicate)


def _artifacts(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the artifacts as subjects; where there are none, the plan, for a statement needs a subject."""
    found = {f"{ARTIFACTS}/{a['name']}": a["sha256"] for a in record["artifacts"]}
    return found or {PLAN: digest_of(record["plan"])}


def _finished(record: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(record["finished"])
