"""Plugins and waivers: what each lets through, on what evidence, and nothing beside it."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from policy.cases import try_cases
from policy.decision import decide
from policy.diff import diff_policies
from policy.errors import PolicyFileError
from policy.inspection import (
    ArtifactInventory,
    ModelReplay,
    OperatorUse,
    PluginInventory,
    ReplayCase,
    StructuralFinding,
)
from policy.load import load_policy, make_policy, parse_policy
from policy.model import PluginRule, Policy, Waiver

TODAY = date(2026, 11, 24)
STANDARD = load_policy("standard")
RECIPE = {"source": "tests", "commit": "0" * 40, "builder": "sha256:" + "0" * 64, "command": "make"}
ONNX: dict[str, Any] = {
    "schema": "executor.policy-plugin/v1",
    "id": "PLUGIN-TWICE-ORT",
    "name": "twice-ort",
    "runtime": "onnxruntime",
    "sha256": "a" * 64,
    "size_bytes": 1,
    "soname": "libtwice.so",
    "needed": ["libc.so.6"],
    "abi": "onnxruntime",
    "built_against": {"onnxruntime": "1.32.0"},
    "operators": ["graph.example::Twice"],
    "recipe": RECIPE,
    "reason": "the example of the tests",
    "reviewer": "security-review",
    "reviewed": TODAY,
    "allows": ["graph.example::Twice"],
    "denies": ["graph.example::Thrice"],
}
TORCH = ONNX | {
    "id": "PLUGIN-TWICE-TORCH",
    "name": "twice-torch",
    "runtime": "torch",
    "sha256": "b" * 64,
    "abi": "torch-stable",
    "built_against": {"torch": "2.13.0"},
    "operators": ["graph_example::twice.default"],
    "allows": ["graph_example::twice.default"],
    "denies": ["graph_example::twice.out"],
}


def policy(*plugins: dict[str, Any], waivers: tuple[Waiver, ...] = ()) -> Policy:
    rules = {document["name"]: PluginRule.model_validate(document) for document in plugins}
    profile = STANDARD.profile.model_copy(update={"plugins": tuple(rules), "waiver": waivers})
    return make_policy(profile, STANDARD.operators, rules, STANDARD.seccomp_text)


BOTH = policy(ONNX, TORCH)
FOUND = PluginInventory(name="twice-ort", soname="libtwice.so", needed=("libc.so.6",), abi="onnxruntime", findings=())
FOUND_TORCH = replace(FOUND, name="twice-torch", abi="torch-stable")
MODELS = {
    "onnx": ("graph.example", "Twice", "m.onnx"),
    "torchscript": ("graph_example", "twice", "m.pt"),
    "pt2": ("graph_example", "twice.default", "m.pt2"),
}


def decided(
    form: str,
    *found: PluginInventory,
    rules: Policy = BOTH,
    registered: tuple[str, ...] | None = None,
    domains: tuple[str, ...] | None = None,
    today: date = TODAY,
    sha256: str = "e" * 64,
    name: str | None = None,
) -> list[str]:
    """Return the rules that deny a model of one operator; `registered` is what it should be where left out."""
    namespace, operator, file = MODELS[form]
    operator = name or operator
    model = ArtifactInventory(
        name=file,
        role="model",
        format=form,
        operators=(OperatorUse(namespace=namespace, name=operator, count=1, places=("here",)),),
        findings=(),
        ir_version=10,
        opset=20,
        domains=domains if domains is not None else (namespace,) * (form == "onnx"),
    )
    if registered is None:
        runtime = "onnxruntime" if form == "onnx" else "torch"
        used = [rules.plugins[p.name] for p in found]
        registered = tuple(label for p in used if p.runtime == runtime for label in p.operators)
    case = ReplayCase(case="c", max_abs=0.0, allowed=1e-5, argmax_agreement=1.0)
    replay = ModelReplay(
        name=file, error="", cases=(case,), operators=(f"{namespace}::{operator}",), registered=registered
    )
    decision = decide(
        rules,
        [model],
        [replay],
        tolerance=(1e-5, 1e-5),
        artifacts=[(file, sha256)],
        today=today,
        plugins=found,
    )
    return [f.rule for f in decision.findings]


@pytest.mark.parametrize("form", MODELS)
def test_a_model_goes_from_denied_to_allowed_with_the_plugin_in_use(form: str) -> None:
    mine = FOUND if form == "onnx" else FOUND_TORCH
    other = FOUND_TORCH if form == "onnx" else FOUND
    denial = f"{form.upper()}-DEFAULT-DENY"
    assert denial in decided(form)
    assert denial in decided(form, other)
    assert denial in decided(form, rules=STANDARD)
    assert decided(form, mine) == []
    assert decided(form, mine, other) == []
    assert decided(form, mine, name="thrice" if form != "pt2" else "twice.out") == [denial]


def test_a_domain_may_be_imported_where_a_plugin_in_use_has_it() -> None:
    assert decided("onnx", FOUND, domains=("graph.example", "evil")) == ["ONNX-OPSET-IMPORT"]
    assert "ONNX-OPSET-IMPORT" in decided("onnx")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"soname": "libother.so"}, "PLUGIN-ELF"),
        ({"needed": ("libc.so.6", "libevil.so")}, "PLUGIN-ELF"),
        ({"abi": "none"}, "PLUGIN-ELF"),
        ({"findings": (StructuralFinding(id="ELF-MALFORMED", place="file", detail="odd"),)}, "ELF-MALFORMED"),
    ],
)
def test_a_library_that_is_not_what_it_is_listed_as_is_denied(change: dict[str, Any], rule: str) -> None:
    assert decided("onnx", replace(FOUND, **change)) == [rule]


@pytest.mark.parametrize("registered", [(), ("graph.example::Twice", "graph.example::Hidden"), ("ai.onnx::Relu",)])
def test_what_the_registry_gained_must_be_what_is_listed(registered: tuple[str, ...]) -> None:
    assert set(decided("onnx", FOUND, registered=registered)) == {"PLUGIN-REGISTERED"}


def test_a_registry_that_gained_something_without_a_plugin_is_denied() -> None:
    assert "PLUGIN-REGISTERED" in decided(
        "onnx", FOUND_TORCH, rules=policy(TORCH, waivers=(waiver(),)), registered=("x::Y",), domains=()
    )


def test_a_plugin_holds_on_its_last_day_and_not_after() -> None:
    rules = policy(ONNX | {"expires": TODAY})
    assert decided("onnx", FOUND, rules=rules) == []
    assert decided("onnx", FOUND, rules=rules, today=TODAY + timedelta(1)) == ["PLUGIN-TWICE-ORT"]


@pytest.mark.parametrize(
    "change",
    [
        {"abi": "torch-minor"},
        {"built_against": {"torch": "2.13.0"}},
        {"built_against": {}},
        {"operators": []},
        {"operators": ["graph.example::Twice", "graph.example::Twice"]},
        {"operators": ["ai.onnx::Relu"]},
        {"operators": ["com.microsoft::Gelu"]},
        {"operators": ["graph.example::*"]},
        {"operators": ["graph.example::Twice.default"]},
        {"sha256": "A" * 64},
        {"sha256": ""},
        {"recipe": RECIPE | {"commit": "main"}},
        {"recipe": RECIPE | {"builder": "builder:latest"}},
        {"allows": []},
        {"denies": []},
        {"surprise": 1},
    ],
)
def test_a_plugin_that_does_not_hold_together_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PluginRule.model_validate(ONNX | change)


def test_torch_operators_have_an_overload() -> None:
    with pytest.raises(ValidationError, match="overload"):
        PluginRule.model_validate(TORCH | {"operators": ["graph_example::twice"]})
    with pytest.raises(ValidationError, match="own namespace"):
        PluginRule.model_validate(TORCH | {"operators": ["aten::save.default"]})


@pytest.mark.parametrize("change", [{"sha256": "a" * 64}, {"id": "PLUGIN-TWICE-ORT"}, {"id": "ONNX-SHAPE"}])
def test_two_plugins_share_nothing(change: dict[str, Any]) -> None:
    with pytest.raises(PolicyFileError, match="already"):
        policy(ONNX, TORCH | change)
    with pytest.raises(PolicyFileError, match="already"):
        policy(ONNX, ONNX | {"name": "other", "id": "PLUGIN-OTHER", "sha256": "c" * 64})


def test_the_cases_of_a_plugin_are_tried() -> None:
    assert [r.wrong for r in try_cases(BOTH, today=TODAY) if r.rule.startswith("PLUGIN")] == [""] * 4
    wrong = policy(ONNX | {"allows": ["graph.example::Thrice"], "denies": ["graph.example::Twice"]})
    assert sum(bool(r.wrong) for r in try_cases(wrong, today=TODAY)) == 3


def test_a_recorded_policy_keeps_its_plugins_and_waivers() -> None:
    rules = policy(ONNX, TORCH, waivers=(waiver(),))
    assert parse_policy(rules.to_wire()) == rules
    assert len({rules.digest, BOTH.digest, STANDARD.digest}) == 3


def test_a_diff_names_plugins_by_their_bytes_and_waivers_by_theirs() -> None:
    def effects(old: Policy, new: Policy) -> list[str]:
        return [c.effect for c in diff_policies(old, new, today=TODAY)]

    assert effects(STANDARD, policy(ONNX)) == ["loosened"]
    assert effects(policy(ONNX), STANDARD) == ["tightened"]
    assert effects(policy(ONNX), policy(ONNX | {"sha256": "f" * 64})) == ["loosened", "tightened"]
    assert effects(policy(ONNX), policy(ONNX | {"expires": TODAY})) == ["tightened"]
    assert effects(policy(ONNX | {"expires": TODAY}), policy(ONNX)) == ["loosened"]
    assert effects(STANDARD, policy(waivers=(waiver(),))) == ["loosened"]
    assert effects(policy(waivers=(waiver(),)), STANDARD) == ["tightened"]
    signed = STANDARD.profile.model_copy(update={"signers": ("local", "key")})
    narrower = make_policy(signed, STANDARD.operators, {}, STANDARD.seccomp_text)
    assert effects(narrower, STANDARD) == ["loosened"]
    assert effects(STANDARD, narrower) == ["tightened"]


def waiver(**change: Any) -> Waiver:
    values: dict[str, Any] = {
        "id": "WAIVER-ONE",
        "artifact_sha256": "e" * 64,
        "format": "onnx",
        "namespace": "graph.example",
        "name": "Twice",
        "reason": "one model, until its next release",
        "reviewer": "security-review",
        "reviewed": TODAY,
        "expires": TODAY + timedelta(30),
    }
    return Waiver.model_validate(values | change)


def with_waiver(form: str = "onnx", *, day: date = TODAY, sha256: str = "e" * 64, **change: Any) -> list[str]:
    return decided(form, rules=policy(waivers=(waiver(**change),)), domains=(), registered=(), today=day, sha256=sha256)


DENIED = ["ONNX-DEFAULT-DENY"]


def test_a_waiver_is_for_one_artifact_one_operator_and_some_days() -> None:
    assert with_waiver() == []
    assert with_waiver(sha256="f" * 64) == DENIED
    assert with_waiver(name="Thrice") == DENIED
    assert with_waiver(namespace="other") == DENIED
    assert with_waiver(format="pt2") == DENIED
    assert with_waiver(day=TODAY + timedelta(30)) == []
    assert with_waiver(day=TODAY + timedelta(31)) == DENIED
    assert with_waiver(day=TODAY - timedelta(1)) == DENIED


def test_what_was_waived_is_counted_apart() -> None:
    rules = policy(waivers=(waiver(namespace="", name="Acosh"),))
    model = ArtifactInventory(
        name="m.onnx",
        role="model",
        format="onnx",
        operators=(OperatorUse(namespace="", name="Acosh", count=1, places=("here",)),),
        findings=(),
        ir_version=10,
        opset=20,
    )
    case = ReplayCase(case="c", max_abs=0.0, allowed=1e-5, argmax_agreement=1.0)
    replay = ModelReplay(name="m.onnx", error="", cases=(case,), operators=("::Acosh",))
    decision = decide(rules, [model], [replay], tolerance=(0.0, 0.0), artifacts=[("m.onnx", "e" * 64)], today=TODAY)
    assert decision.allowed
    assert {(f.rule, f.remedy) for f in decision.waived} == {
        ("ONNX-DEFAULT-DENY", "waived by WAIVER-ONE until 2026-12-24")
    }


def test_what_a_rule_denies_by_name_cannot_be_waived() -> None:
    loop = policy(waivers=(waiver(namespace="", name="Loop"),))
    model = ArtifactInventory(
        name="m.onnx",
        role="model",
        format="onnx",
        operators=(OperatorUse(namespace="", name="Loop", count=1, places=("here",)),),
        findings=(),
        ir_version=10,
        opset=20,
    )
    decision = decide(loop, [model], None, tolerance=(0.0, 0.0), artifacts=[("m.onnx", "e" * 64)], today=TODAY)
    assert [f.rule for f in decision.findings] == ["ONNX-UNBOUNDED-LOOP"]


def test_a_waiver_ends_within_ninety_days() -> None:
    assert waiver(expires=TODAY + timedelta(90))
    with pytest.raises(ValidationError, match="90 days"):
        waiver(expires=TODAY + timedelta(91))
    with pytest.raises(ValidationError, match="90 days"):
        waiver(expires=TODAY - timedelta(1))
