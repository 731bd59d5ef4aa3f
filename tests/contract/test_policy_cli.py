"""`executor policy` as a reviewer's pipeline sees it: data on stdout, and exit codes that can gate a merge."""

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from executor.cli.policy.schema import MODELS, policy_schema
from policy.load import FOLDER
from tests.contract.test_cli import executor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("profiles", "operators", "plugins", "seccomp"):
        shutil.copytree(FOLDER / part, tmp_path / "policy" / part)
    return tmp_path / "policy"


def change(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))


def policy(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = executor("policy", *arguments, "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["exit_code"] == done.returncode
    assert document["schema"].startswith("executor.")
    return done.returncode, document


def test_the_policy_that_is_shipped_is_valid_and_its_cases_pass() -> None:
    code, found = policy("lint")
    assert (code, found["status"], found["problems"]) == (0, "valid", [])
    code, found = policy("test")
    assert (code, found["status"], found["failures"]) == (0, "passed", [])
    assert set(found["cases"]) == {"standard", "onnx-standard", "crun", "gvisor", "cuda"}
    assert min(found["cases"].values()) > 40


def test_lint_names_what_cannot_be_read_and_what_is_due(folder: Path) -> None:
    change(folder, "profiles/gvisor.toml", 'extends = "standard"', 'extends = "absent"')
    change(folder, "operators/onnx.toml", 'id = "ONNX-BRANCH"', 'id = "ONNX-BRANCH"\nexpires = 2020-01-01')
    change(folder, "operators/onnx.toml", "reviewed = 2026-11-23", "reviewed = 2999-01-01")
    code, found = policy("lint", str(folder))
    assert (code, found["status"]) == (21, "invalid")
    errors = [p for p in found["problems"] if p["level"] == "error"]
    assert [p["profile"] for p in errors] == ["gvisor"]
    warnings = " ".join(p["message"] for p in found["problems"] if p["level"] == "warning")
    assert "ONNX-BRANCH expired on 2020-01-01" in warnings
    assert "reviewed on 2999-01-01" in warnings


def test_test_fails_where_a_case_does(folder: Path) -> None:
    change(folder, "operators/onnx.toml", '"Abs", "Add",', '"Abs",')
    code, found = policy("test", str(folder))
    assert (code, found["status"]) == (23, "failed")
    assert {f["rule"] for f in found["failures"]} == {"ONNX-ARITHMETIC"}
    assert {f["profile"] for f in found["failures"]} == {"standard", "onnx-standard", "crun", "gvisor", "cuda"}


def test_diff_gates_a_loosening_and_nothing_else(folder: Path) -> None:
    change(folder, "profiles/standard.toml", "pids = 1024", "pids = 2048")
    wider = f"{folder}:standard"
    code, found = policy("diff", "standard", wider)
    assert (code, found["status"]) == (0, "loosened")
    (only,) = found["changes"]
    assert only == {"effect": "loosened", "subject": "ceilings.pids", "old": "1024", "new": "2048"}
    assert policy("diff", "standard", wider, "--no-loosening")[0] == 20
    code, found = policy("diff", wider, "standard", "--no-loosening")
    assert (code, found["status"], found["changes"][0]["effect"]) == (0, "not_loosened", "tightened")
    assert policy("diff", "standard", "standard", "--no-loosening")[1]["changes"] == []
    assert executor("policy", "diff", "standard", wider).stdout == "! loosened: ceilings.pids: 1024 -> 2048\n"


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("TS-FILES", "operator rule", "from_file"),
        ("ts-files", "operator rule", "from_file"),
        ("ONNX-FORM", "finding", "strip"),
    ],
)
def test_explain_says_what_a_rule_or_finding_means(name: str, kind: str, words: str) -> None:
    code, found = policy("explain", name)
    assert (code, found["id"], found["kind"]) == (0, name.upper(), kind)
    assert words in json.dumps(found)
    assert words in executor("policy", "explain", name).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("explain", "TS-NOTHING"), "TS-FILES"),
        (("diff", "standard", "absent"), "standard"),
        (("diff", "/nowhere:standard", "standard"), "profiles"),
        (("lint", "/nowhere"), "profiles"),
        (("diff", "standard"), "--help"),
    ],
)
def test_what_is_not_there_is_said_with_a_hint(arguments: tuple[str, ...], words: str) -> None:
    code, found = policy(*arguments)
    assert code == 21
    assert words in found["error"]["hint"]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_schemas_that_editors_use_are_those_of_the_models(name: str) -> None:
    kept = json.loads((FOLDER / "schema" / f"{name}.schema.json").read_text())
    assert kept == policy_schema(name)
    assert json.loads(executor("policy", "schema", name).stdout) == kept
    jsonschema.Draft202012Validator.check_schema(kept)
