"""A decision in its recorded form, and made again from the record alone. Pure: equal records give equal bytes.

A record holds the whole effective policy and all that the inspections reported, so that a second party needs neither
this machine nor its policy files to come to the same decision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from executor.canonical import digest_of
from executor.errors import HostError, RequestError
from executor.inspection.inventory import parse_inventories
from executor.inspection.replay import parse_replays
from policy.decision import MODEL_FORMATS, Decision, decide
from policy.errors import PolicyError
from policy.load import parse_policy
from policy.model import Policy

SCHEMA = "executor.decision/v1"
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def decision_wire(
    decision: Decision, *, policy: Policy, plan_sha256: str, inspection: Mapping[str, Any], decided: date
) -> dict[str, Any]:
    """Return a decision's recorded form.

    Args:
        decision: The decision.
        policy: The effective policy.
        plan_sha256: Digest of the plan of the run.
        inspection: What the inspections reported, as the record has it.
        decided: The day by which rules had expired or not.

    Each finding names as `evidence` the sha256 of what was reported of its artifact.
    """
    return {
        "schema": SCHEMA,
        "allowed": decision.allowed,
        "profile": policy.profile.name,
        "policy_sha256": policy.digest,
        "plan_sha256": plan_sha256,
        "decided": decided.isoformat(),
        "artifacts": dict(decision.artifacts),
        "findings": [f.to_wire() | {"evidence": evidence_of(inspection, f.artifact)} for f in decision.findings],
        "waived": [f.to_wire() | {"evidence": evidence_of(inspection, f.artifact)} for f in decision.waived],
    }


def evidence_of(inspection: Mapping[str, Any], artifact: str) -> str:
    """Return the sha256, in hex, of all that was reported of an artifact; of everything where it has no name."""
    if not artifact:
        return digest_of(inspection)
    replay = inspection["replay"] or {"models": {}}
    return digest_of(
        {"inventory": inspection["inventory"]["artifacts"].get(artifact), "replay": replay["models"].get(artifact)}
    )


@dataclass(frozen=True, slots=True)
class _Described:
    name: str
    role: str


def decide_again(record: Mapping[str, Any]) -> dict[str, Any]:
    """Make the decision of a recorded run again and return its recorded form.

    Raises:
        RequestError: The record holds no decision, or not what one is made from.
    """
    if not isinstance(record.get("decision"), dict):
        raise RequestError(
            "the record holds no decision", hint="a run that ended before its artifacts were inspected has none"
        )
    try:
        policy = parse_policy(record["policy"])
        inspection = record["inspection"]
        described = [_Described(str(a["name"]), str(a["role"])) for a in record["artifacts"]]
        plugins = sorted(set(record["plan"]["plugins"].values()))
        inventories = parse_inventories(inspection["inventory"], described, plugins)
        replays = None
        if inspection["replay"] is not None:
            models = sorted(a.name for a in inventories.artifacts if a.format in MODEL_FORMATS)
            replays = parse_replays(inspection["replay"], models)
        decided = date.fromisoformat(record["decision"]["decided"])
        decision = decide(
            policy,
            inventories.artifacts,
            replays.models if replays else None,
            tolerance=replays.tolerance if replays else (0.0, 0.0),
            artifacts=[(str(a["name"]), str(a["sha256"])) for a in record["artifacts"]],
            today=decided,
            plugins=inventories.plugins,
        )
        return decision_wire(
            decision, policy=policy, plan_sha256=digest_of(record["plan"]), inspection=inspection, decided=decided
        )
    except (PolicyError, HostError, KeyError, TypeError, ValueError) as err:
        raise RequestError(f"the record does not hold what its decision was made from: {err}") from err


def sarif(decision: Mapping[str, Any], *, version: str) -> dict[str, Any]:
    """Return a decision's findings as SARIF 2.1.0 (OASIS), for tools that show findings beside code.

    Args:
        decision: A decision's recorded form.
        version: Of this program.
    """
    rules = sorted({finding["rule"] for finding in decision["findings"]})
    return {
        "$schema": _SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "sealed-executor",
                        "version": version,
                        "rules": [{"id": rule} for rule in rules],
                    }
                },
                "properties": {name: decision[name] for name in ("profile", "policy_sha256", "plan_sha256", "allowed")},
                "results": [_sarif_result(finding, rules) for finding in decision["findings"]],
            }
        ],
    }


def _sarif_result(finding: Mapping[str, str], rules: list[str]) -> dict[str, Any]:
    location: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": finding["place"]}]}
    if finding["artifact"]:
        location["physicalLocation"] = {"artifactLocation": {"uri": finding["artifact"]}}
    return {
        "ruleId": finding["rule"],
        "ruleIndex": rules.index(finding["rule"]),
        "level": "error",
        "message": {"text": f"{finding['detail']}. {finding['remedy']}"},
        "locations": [location],
        "partialFingerprints": {"evidence/v1": finding["evidence"]},
    }
