"""The rules' own cases, and what finds a rule that no longer does what it is for."""

import shutil
from datetime import date
from pathlib import Path

import pytest

from policy.cases import try_cases
from policy.errors import PolicyFileError
from policy.load import FOLDER, load_policy

ONNX = ("onnx.toml", "onnx-bounded.toml")
TODAY = date(2026, 11, 24)
PROFILES = sorted(path.stem for path in (FOLDER / "profiles").glob("*.toml"))


@pytest.mark.parametrize("name", PROFILES)
def test_every_rule_of_every_profile_does_what_its_cases_say(name: str) -> None:
    policy = load_policy(name)
    results = try_cases(policy, today=TODAY)
    assert [result for result in results if result.wrong] == []
    rules = {rule.id for rules in policy.operators.values() for rule in rules.rule}
    for wanted in ("allow", "deny"):
        assert {result.rule for result in results if result.wanted == wanted} == rules


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ('"Abs", "Add",', '"Abs",', ("ONNX-ARITHMETIC", "Add", "denied by ONNX-DEFAULT-DENY")),
        ('"Loop", "Scan",\n]', '"Scan",\n]', None),  # still denied, by default
        (
            'denies = ["com.microsoft::Add", "ai.onnx.preview::Add"]',
            'denies = ["com.microsoft::Add", "Relu"]',
            ("ONNX-ARITHMETIC", "Relu", "a rule allows it"),
        ),
        ('"Identity", "Pad"', '"Pad"', ("ONNX-NONDETERMINISTIC", "Identity", "denied by ONNX-DEFAULT-DENY")),
        (
            'allows = ["If"]\ndenies = ["com.microsoft::If", "ai.onnx.preview::If"]',
            'allows = ["Add"]\ndenies = ["Loop"]',
            ("ONNX-BRANCH", "", "none of its cases to allow"),
        ),
        (
            'denies = ["EPContext", "EPContextLike"]',
            'denies = ["EPContextLike"]',
            ("ONNX-EXTERNAL-CONTEXT", "", "none of its cases to deny"),
        ),
        (
            'id = "ONNX-BRANCH"',
            'id = "ONNX-BRANCH"\nexpires = 2026-11-23',
            ("ONNX-BRANCH", "If", "expired on 2026-11-23"),
        ),
    ],
)
def test_a_rule_that_no_longer_does_it_is_found(
    tmp_path: Path, old: str, new: str, wrong: tuple[str, str, str] | None
) -> None:
    for part in ("profiles", "operators", "plugins", "seccomp"):
        shutil.copytree(FOLDER / part, tmp_path / part)
    (path,) = [tmp_path / "operators" / name for name in ONNX if old in (FOLDER / "operators" / name).read_text()]
    path.write_text(path.read_text().replace(old, new, 1))
    found = [r for r in try_cases(load_policy("standard", folder=tmp_path), today=TODAY) if r.wrong]
    if wrong is None:
        assert found == []
        return
    assert (found[0].rule, found[0].case) == wrong[:2]
    assert wrong[2] in found[0].wrong


@pytest.mark.parametrize(
    "line", ['allows = ["Relu", "Softmax"]\n', 'denies = ["com.microsoft::Gelu", "ai.onnx.ml::Relu"]\n']
)
def test_a_rule_without_a_case_of_each_kind_is_refused(tmp_path: Path, line: str) -> None:
    for part in ("profiles", "operators", "plugins", "seccomp"):
        shutil.copytree(FOLDER / part, tmp_path / part)
    path = tmp_path / "operators/onnx.toml"
    assert line in path.read_text()
    path.write_text(path.read_text().replace(line, ""))
    with pytest.raises(PolicyFileError):
        load_policy("standard", folder=tmp_path)
