"""Every finding that the code can make is explained, and no other."""

import ast
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from policy.errors import PolicyFileError
from policy.findings import FindingTexts, load_findings
from policy.load import load_policy, read_file

ROOT = Path(__file__).parents[3]
SOURCES = [
    *(ROOT / "images/worker/inventory").glob("*.py"),
    ROOT / "policy/decision.py",
    *(ROOT / "executor/inspection").glob("*.py"),
]
FORMATS = ("ONNX", "TORCHSCRIPT", "PT2", "CHECKPOINT", "PICKLE")  # those whose inventory names operators
MADE_UP = {f"{name}-DEFAULT-DENY" for name in FORMATS} | {"ONNX-OPSET-RANGE", "ONNX-IR-RANGE"}  # put together there
HEAD = "schema = 'executor.policy-findings/v1'\n"
ONE = "[[finding]]\nid = 'A-B'\nmeaning = 'long enough'\nremedy = 'do it'\n"


def in_code() -> set[str]:
    """Return the string constants in the code that look like a finding's id."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"^[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)+$", node.value))
    return found


def test_every_finding_of_the_code_is_explained_and_no_other() -> None:
    assert set(load_findings()) == in_code() | MADE_UP


def test_no_finding_is_called_like_a_rule() -> None:
    rules = {rule.id for file in load_policy("standard").operators.values() for rule in file.rule}
    assert rules.isdisjoint(load_findings())


@pytest.mark.parametrize("text", ["", ONE, HEAD, HEAD + ONE + ONE, HEAD + ONE + "surprise = 1\n"])
def test_a_malformed_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "findings.toml").write_text(text)
    with pytest.raises(PolicyFileError):
        read_file(tmp_path / "findings.toml", FindingTexts)
    (tmp_path / "findings.toml").write_text(HEAD + ONE)
    assert read_file(tmp_path / "findings.toml", FindingTexts).finding


def test_a_text_needs_all_its_parts() -> None:
    with pytest.raises(ValidationError):
        FindingTexts.model_validate({"schema": "executor.policy-findings/v1", "finding": [{"id": "A-B"}]})
