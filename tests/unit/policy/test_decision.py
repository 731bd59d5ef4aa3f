"""The decision, rule by rule: each has an allow case and a deny case."""

from datetime import date
from typing import Any

import pytest

from policy.decision import Decision, Finding, check_replay, check_static
from policy.inspection import ArtifactInventory, ModelReplay, OperatorUse, ReplayCase, StructuralFinding
from policy.load import load_policy
from policy.model import Policy

TODAY = date(2026, 11, 23)
POLICY = load_policy("standard")
SUFFIX = {"onnx": ".onnx", "torchscript": ".pt", "pt2": ".pt2"}


def use(namespace: str, name: str) -> OperatorUse:
    return OperatorUse(namespace=namespace, name=name, count=2, places=("graph/node[3]",))


def artifact(form: str = "onnx", *operators: OperatorUse, **change: Any) -> ArtifactInventory:
    values: dict[str, Any] = {
        "name": "m" + SUFFIX.get(form, ".bin"),
        "role": "model",
        "format": form,
        "operators": operators,
        "findings": (),
        "ir_version": 10,
        "opset": 20,
    }
    return ArtifactInventory(**values | change)


def static(*artifacts: ArtifactInventory, policy: Policy = POLICY) -> list[Finding]:
    return check_static(policy, artifacts, today=TODAY)


ALLOWED = [
    (f, r, n) for f, rules in POLICY.operators.items() for r in rules.rule for n in r.names if r.effect == "allow"
]
DENIED = [(f, r, n) for f, rules in POLICY.operators.items() for r in rules.rule for n in r.names if r.effect == "deny"]


def test_every_operator_of_every_allowing_rule_is_allowed() -> None:
    for form, rule, name in ALLOWED:
        assert static(artifact(form, use(rule.namespace, name))) == [], (form, rule.id, name)


def test_every_operator_of_every_denying_rule_is_denied_by_that_rule() -> None:
    for form, rule, name in DENIED:
        (finding,) = static(artifact(form, use(rule.namespace, name)))
        assert finding.rule == rule.id
        assert finding.remedy


@pytest.mark.parametrize(
    ("form", "namespace", "name"),
    [
        ("onnx", "evil.ops", "Run"),
        ("onnx", "ai.onnx.ml", "TreeEnsemble"),
        ("onnx", "ai.onnx", "Relu"),
        ("onnx", "com.microsoft", "Gelu"),
        ("onnx", "", "relu"),
        ("onnx", "", "ImageDecoder"),
        ("torchscript", "aten", "Relu"),
        ("torchscript", "aten", "load"),
        ("torchscript", "evil", "add"),
        ("torchscript", "pickle", "os.system"),
        ("torchscript", "pickle", "torch._utils._rebuild_tensor"),
        ("torchscript", "class:evil", "Thing"),
        ("torchscript", "", "add"),
    ],
)
def test_what_no_rule_names_is_denied(form: str, namespace: str, name: str) -> None:
    (finding,) = static(artifact(form, use(namespace, name)))
    assert finding.rule == f"{form.upper()}-DEFAULT-DENY"
    assert finding.place == "graph/node[3]"
    assert name in finding.detail


def test_a_rule_holds_on_its_last_day_and_not_after() -> None:
    rules = POLICY.operators["onnx"]
    expiring = rules.model_copy(
        update={"rule": tuple(r.model_copy(update={"expires": TODAY}) for r in rules.rule if r.effect == "allow")}
    )
    policy = Policy(
        profile=POLICY.profile,
        operators={"onnx": expiring},
        plugins={},
        seccomp_text="",
        seccomp_sha256="",
        digest="",
    )
    relu = artifact("onnx", use("", "Relu"))
    assert check_static(policy, [relu], today=TODAY) == []
    (finding,) = check_static(policy, [relu], today=date(2026, 11, 24))
    assert "expired" in finding.detail


def test_nothing_at_all_is_denied() -> None:
    assert [f.rule for f in static()] == ["RELEASE-EMPTY"]
    assert not Decision(findings=(), artifacts=()).allowed


@pytest.mark.parametrize("form", ["pickle", "zip", "unknown", "checkpoint", ""])
def test_a_format_that_is_not_listed_is_denied(form: str) -> None:
    assert [f.rule for f in static(artifact(form))] == ["FORMAT-NOT-ALLOWED"]


def test_a_name_that_hides_the_format_is_denied() -> None:
    assert [f.rule for f in static(artifact("onnx", name="m.txt"))] == ["FORMAT-NAME"]


def test_a_model_under_another_role_is_denied() -> None:
    assert [f.rule for f in static(artifact("onnx", role="data"))] == ["FORMAT-ROLE"]
    assert static(artifact("npz", role="data", name="v.npz")) == []


def test_a_structural_finding_is_denied_under_its_own_id() -> None:
    found = StructuralFinding(id="ONNX-EXTERNAL-DATA", place="initializer w", detail="points outside")
    (finding,) = static(artifact("onnx", findings=(found,)))
    assert (finding.rule, finding.place) == ("ONNX-EXTERNAL-DATA", "initializer w")


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"opset": 18}, []),
        ({"opset": 25}, []),
        ({"opset": 17}, ["ONNX-OPSET-RANGE"]),
        ({"opset": 26}, ["ONNX-OPSET-RANGE"]),
        ({"opset": None}, ["ONNX-OPSET-RANGE"]),
        ({"ir_version": 8}, []),
        ({"ir_version": 10}, []),
        ({"ir_version": 7}, ["ONNX-IR-RANGE"]),
        ({"ir_version": 11}, ["ONNX-IR-RANGE"]),
        ({"ir_version": None}, ["ONNX-IR-RANGE"]),
    ],
)
def test_onnx_versions_have_a_range_with_two_ends(change: dict[str, Any], rules: list[str]) -> None:
    assert [f.rule for f in static(artifact("onnx", **change))] == rules


def case(**change: Any) -> ReplayCase:
    values: dict[str, Any] = {"case": "a", "max_abs": 1e-6, "allowed": 1e-5, "argmax_agreement": 1.0}
    return ReplayCase(**values | change)


def replayed(
    *cases: ReplayCase, error: str = "", operators: tuple[str, ...] = (), form: str = "onnx", atol: float = 1e-5
) -> list[str]:
    model = artifact(form)
    replay = ModelReplay(name=model.name, error=error, cases=cases, operators=operators)
    return [f.rule for f in check_replay(POLICY, [model], [replay], tolerance=(atol, 1e-5), today=TODAY)]


def test_a_model_that_replays_within_tolerance_passes() -> None:
    assert replayed(case()) == []
    assert replayed(case(max_abs=1e-5)) == []


@pytest.mark.parametrize(
    ("found", "rule"),
    [
        (lambda: replayed(), "REPLAY-CASES"),
        (lambda: replayed(error="did not load"), "REPLAY-FAILED"),
        (lambda: replayed(case(max_abs=1.1e-5)), "REPLAY-DIFFERENCE"),
        (lambda: replayed(case(max_abs=float("nan"))), "REPLAY-DIFFERENCE"),
        (lambda: replayed(case(argmax_agreement=0.999)), "REPLAY-ARGMAX"),
        (lambda: replayed(case(argmax_agreement=float("nan"))), "REPLAY-ARGMAX"),
        (lambda: replayed(case(), atol=1e-4), "REPLAY-TOLERANCE"),
        (lambda: replayed(case(), operators=("aten::save",), form="torchscript"), "TS-FILES"),
        (lambda: replayed(case(), operators=("evil::op",), form="torchscript"), "TORCHSCRIPT-DEFAULT-DENY"),
    ],
)
def test_a_replay_that_falls_short_is_denied(found: Any, rule: str) -> None:
    assert found() == [rule]


def test_what_the_loader_makes_of_the_language_need_not_be_in_the_file() -> None:
    assert replayed(case(), operators=("prim::Constant", "aten::Int"), form="torchscript") == []


def test_any_other_operator_must_be_in_the_file_and_in_the_loaded_graph() -> None:
    assert replayed(case(), operators=("aten::add",), form="torchscript") == ["REPLAY-UNLISTED-OPERATOR"]
    assert replayed(case(), operators=("::Relu",)) == ["REPLAY-UNLISTED-OPERATOR"]
    model = artifact("torchscript", use("aten", "add"))
    replay = ModelReplay(name=model.name, error="", cases=(case(),), operators=("aten::add",))
    assert check_replay(POLICY, [model], [replay], tolerance=(1e-5, 1e-5), today=TODAY) == []


def test_a_model_that_was_not_replayed_is_denied() -> None:
    found = check_replay(POLICY, [artifact()], [], tolerance=(1e-5, 1e-5), today=TODAY)
    assert [f.rule for f in found] == ["REPLAY-FAILED"]
