"""Decisions made again from their records: the same bytes, whatever was decided, and nothing else is needed."""

import json
import random
from datetime import date
from typing import Any

import jsonschema
import pytest

from executor.canonical import digest_of
from executor.errors import RequestError
from executor.inspection.decision import decide_again, decision_wire, sarif
from executor.inspection.inventory import parse_inventories
from executor.inspection.replay import parse_replays
from policy import load as load_module
from policy.decision import decide
from policy.load import load_policy, parse_policy
from signing.encoding import canonical_json
from tests.unit.executor.job.test_plan import plan

PROFILES = ("standard", "crun", "gvisor", "cuda")
POLICIES = [load_policy(name) for name in PROFILES]
FORMATS = {"onnx": "model", "torchscript": "model", "npz": "data", "json": "report", "pickle": "data", "text": "report"}
OPERATORS = {
    form: [(rule.namespace, name) for rule in rules.rule if rule.effect == "allow" for name in rule.names]
    for form, rules in load_policy("standard").operators.items()
}
STRANGE = [("evil.ops", "Run"), ("", "Acosh"), ("aten", "rrelu"), ("com.microsoft", "EPContext")]


class Described:
    def __init__(self, name: str, role: str) -> None:
        self.name, self.role = name, role


def invented(dice: random.Random) -> dict[str, Any]:
    """Invent what the inspections of a run reported, and return the record that the run would have left."""
    policy, day = dice.choice(POLICIES), date(2026, dice.randint(1, 12), dice.randint(1, 28))
    inventories: dict[str, Any] = {}
    artifacts: list[dict[str, Any]] = []
    for number in range(dice.choice((0, 1, 1, 2, 2, 3))):
        form = dice.choice(list(FORMATS))
        fitting = dict(zip(FORMATS, (".onnx", ".pt", ".npz", ".json", ".pkl", ".txt"), strict=True))[form]
        artifact = f"a{number}{dice.choice((*[fitting] * 9, '.bin'))}"
        operators = dice.sample(OPERATORS[form], dice.randint(0, 3)) if form in OPERATORS else []
        operators += dice.sample(STRANGE, int(dice.random() < 0.05))
        inventories[artifact] = {
            "format": form,
            "facts": {
                "ir_version": dice.choice((8, 10, 10, 14)),
                "opset_imports": {"": dice.choice((17, 20, 20, 20, 26))},
            },
            "operators": [{"namespace": ns, "name": n, "count": 2, "places": ["p"]} for ns, n in sorted(operators)],
            "findings": [{"id": "ONNX-FORM", "place": "file", "detail": "é \u2028 odd"}] * int(dice.random() < 0.05),
        }
        role = dice.choice((*[FORMATS[form]] * 9, "data"))
        artifacts.append({"name": artifact, "role": role, "size": 1, "sha256": f"{number:064x}"})
    models = [n for n, i in inventories.items() if i["format"] in ("onnx", "torchscript")]
    replay = None
    if models and dice.random() < 0.9:
        case = {
            "case": "c",
            "shape": [1],
            "max_abs": dice.choice((0.0, 1e-7, 1e-7, 1.0)),
            "allowed": 1e-5,
            "argmax_agreement": 1.0,
        }
        replay = {
            "models": {
                n: {
                    "error": dice.choice(("", "", "", "it failed")),
                    "cases": [case] * dice.choice((0, 1, 2, 2)),
                    "operators": [],
                }
                for n in models
            },
            "atol": dice.choice((1e-5, 1e-5, 1e-5, 1e-3)),
            "rtol": 1e-5,
            "environment": {"torch": "2.13.0"},
        }
    inspection = {"inventory": {"artifacts": inventories, "plugins": {}, "environment": {}}, "replay": replay}
    parsed = parse_inventories(inspection["inventory"], [Described(a["name"], a["role"]) for a in artifacts])  # type: ignore[arg-type]
    replays = parse_replays(replay, sorted(models)) if replay else None
    decision = decide(
        policy,
        parsed.artifacts,
        replays.models if replays else None,
        tolerance=replays.tolerance if replays else (0.0, 0.0),
        artifacts=[(a["name"], a["sha256"]) for a in artifacts],
        today=day,
    )
    planned = plan().to_wire()
    wire = decision_wire(decision, policy=policy, plan_sha256=digest_of(planned), inspection=inspection, decided=day)
    return {
        "schema": "executor.record/v1",
        "plan": planned,
        "policy": policy.to_wire(),
        "artifacts": artifacts,
        "inspection": inspection,
        "decision": wire,
    }


def test_a_thousand_recorded_decisions_come_out_as_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(5)
    records = [canonical_json(invented(dice)) for _ in range(1000)]
    monkeypatch.setattr(load_module, "FOLDER", None)  # the record alone: no policy file is there to read
    allowed = 0
    for data in records:
        record = json.loads(data)
        assert canonical_json(decide_again(record)) == canonical_json(record["decision"])
        allowed += record["decision"]["allowed"]
    assert 100 < allowed < 900  # both kinds are among them


def released() -> dict[str, Any]:
    dice = random.Random(6)
    while not (record := invented(dice))["decision"]["allowed"]:
        pass
    return json.loads(json.dumps(record))  # type: ignore[no-any-return]


def test_a_record_whose_evidence_was_changed_decides_otherwise() -> None:
    record = released()
    assert decide_again(record) == record["decision"]
    name = next(iter(record["inspection"]["inventory"]["artifacts"]))
    record["inspection"]["inventory"]["artifacts"][name]["findings"] = [{"id": "X-Y", "place": "p", "detail": "d"}]
    again = decide_again(record)
    assert again["allowed"] is False
    assert again["findings"][0]["evidence"] != ""


@pytest.mark.parametrize("part", ["policy", "plan", "artifacts"])
def test_a_record_whose_other_parts_were_changed_does_not_come_out_the_same(part: str) -> None:
    record = released()
    if part == "policy":
        record["policy"]["profile"]["ceilings"]["pids"] += 1
    elif part == "plan":
        record["plan"]["seed"] += 1
    else:
        record["artifacts"][0]["sha256"] = "f" * 64
    assert decide_again(record) != record["decision"]


@pytest.mark.parametrize("missing", ["decision", "policy", "plan", "artifacts", "inspection"])
def test_a_record_without_what_is_needed_is_refused(missing: str) -> None:
    record = released()
    del record[missing]
    with pytest.raises(RequestError):
        decide_again(record)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("policy", {}),
        ("policy", {"profile": {}, "operators": {}, "seccomp": ""}),
        ("policy", {"profile": {}, "operators": [], "seccomp": ""}),
        ("inspection", {"inventory": {}, "replay": None}),
        ("inspection", []),
        ("artifacts", [{"name": "x"}]),
        ("artifacts", 7),
        ("decision", {"decided": "tomorrow"}),
    ],
)
def test_a_record_with_something_else_in_it_is_refused(part: str, value: object) -> None:
    with pytest.raises(RequestError):
        decide_again(released() | {part: value})


def test_a_recorded_policy_is_the_policy() -> None:
    for name in PROFILES:
        policy = load_policy(name)
        assert parse_policy(json.loads(json.dumps(policy.to_wire()))) == policy


def test_each_finding_names_the_digest_of_its_evidence() -> None:
    dice = random.Random(7)
    seen = 0
    for _ in range(50):
        record = invented(dice)
        for finding in record["decision"]["findings"]:
            name, inspection = finding["artifact"], record["inspection"]
            replay = inspection["replay"] or {"models": {}}
            whole = {
                "inventory": inspection["inventory"]["artifacts"].get(name),
                "replay": replay["models"].get(name),
            }
            assert finding["evidence"] == digest_of(whole if name else inspection)
            seen += 1
    assert seen > 50


# The parts of SARIF 2.1.0 (OASIS, sections 3.13 to 3.30) that are used here, with what the standard requires of them.
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool"],
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {"driver": {"type": "object", "required": ["name"]}},
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message"],
                            "properties": {
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": {"type": "object", "required": ["text"]},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                            },
                        },
                    },
                },
            },
        },
    },
}


def test_findings_as_sarif_name_rule_place_and_evidence() -> None:
    dice = random.Random(8)
    while len((decision := invented(dice)["decision"])["findings"]) < 3:
        pass
    document = sarif(decision, version="1")
    jsonschema.validate(document, SARIF)
    (run,) = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    for result, finding in zip(run["results"], decision["findings"], strict=True):
        assert rules[result["ruleIndex"]] == result["ruleId"] == finding["rule"]
        assert finding["detail"] in result["message"]["text"]
        assert result["partialFingerprints"] == {"evidence/v1": finding["evidence"]}
        (location,) = result["locations"]
        assert location["logicalLocations"] == [{"fullyQualifiedName": finding["place"]}]
        if finding["artifact"]:
            assert location["physicalLocation"]["artifactLocation"]["uri"] == finding["artifact"]
    assert sarif(decision, version="1") == document
