"""Hostile and malformed artifacts, built in the sandbox: none is allowed, none hurts the inventory, all are real."""

import json
import os
from collections import Counter
from datetime import date
from typing import Any

import pytest

from executor.inspection.inventory import parse_inventories
from policy.decision import check_static
from policy.load import load_policy
from tests.integration.conftest import SCRIPTS, Host

EXPECTED = SCRIPTS.parent / "corpus.json"

KINDS = ("pickle", "checkpoint", "zip", "torchscript", "pt2", "array", "arrow", "parquet", "safetensors", "onnx")
OVERHEAD_SECONDS, BYTES_MAX, REPORT_BYTES_MAX = 5.0, 1 << 30, 1 << 20


class Described:
    def __init__(self, name: str, role: str) -> None:
        self.name, self.role = name, role


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("corpus")
        patch.setenv("EXECUTOR_HOME", str(folder / "home"))
        host = Host(folder)
        job = host.script_job(
            "corpus",
            {"name": "seen.json", "role": "report"},
            code={"path": str(SCRIPTS / "corpus"), "entry": "corpus.py"},
            limits={
                "wall_seconds": 1800,
                "idle_seconds": 300,
                "memory_bytes": 4 << 30,
                "tmp_bytes": 512 << 20,
                "pids": 256,
            },
        )
        done, target = host.run(job)
        assert done.code == 0, (done.json.get("outcome"), done.stderr)
        seen: list[dict[str, Any]] = json.loads((target / "artifacts/seen.json").read_text())
        return seen


def denials(sample: dict[str, Any]) -> list[str]:
    """Return the rules that deny a sample under the role and the name that suit it best."""
    policy = load_policy("standard")
    form = sample["report"]["format"]
    roles = next((rule.roles for rule in policy.profile.format if rule.format == form), ("data",))
    name = f"sample{sample['ending']}"
    report = {"artifacts": {name: sample["report"]}, "plugins": {}, "environment": {}}
    found = parse_inventories(report, [Described(name, roles[0])])
    return [f.rule for f in check_static(policy, found.artifacts, today=date(2026, 11, 24))]


def test_what_denies_each_sample_is_on_file(corpus: list[dict[str, Any]]) -> None:
    """To the word, so that a check that is lost, or found by another one instead, is noticed."""
    seen = {label(s): findings(s) for s in corpus}
    if os.environ.get("EXECUTOR_WRITE_EXPECTED"):  # after a change that was meant
        EXPECTED.write_text(json.dumps(seen, indent=1, sort_keys=True) + "\n")
    assert seen == json.loads(EXPECTED.read_text())


def findings(sample: dict[str, Any]) -> list[str]:
    return [f"{f['id']}: {f['place']}: {f['detail']}"[:200] for f in sample["report"]["findings"]][:20]


def label(sample: dict[str, Any]) -> str:
    return f"{sample['kind']}: {sample['name']}"


def test_every_sample_is_denied(corpus: list[dict[str, Any]]) -> None:
    assert len(corpus) >= 120
    assert [label(s) for s in corpus if not denials(s)] == []


def test_no_sample_takes_more_than_its_bounds(corpus: list[dict[str, Any]]) -> None:
    over = [
        (label(s), s["cpu_seconds"], s["wall_seconds"], s["peak_bytes"], s["report_bytes"])
        for s in corpus
        if s["cpu_seconds"] > s["cpu_seconds_max"] + OVERHEAD_SECONDS
        or s["peak_bytes"] > BYTES_MAX
        or s["report_bytes"] > REPORT_BYTES_MAX
    ]
    assert over == []


def test_of_each_kind_some_fire_when_they_are_loaded_without_the_gate(corpus: list[dict[str, Any]]) -> None:
    fired = Counter(s["kind"] for s in corpus if s["fired"])
    print(f"\n{len(corpus)} samples, {sum(fired.values())} of them fired: {dict(fired)}")
    assert set(KINDS) <= set(fired), fired
    assert sum(fired.values()) >= 50


def test_what_a_pickle_calls_is_named(corpus: list[dict[str, Any]]) -> None:
    for sample in corpus:
        if sample["kind"] == "pickle" and sample["fired"] and "." in sample["name"]:
            names = {operator["name"] for operator in sample["report"]["operators"]}
            assert sample["name"].removeprefix("text of ") in names, sample["name"]
