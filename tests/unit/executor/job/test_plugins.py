"""Plugins in jobs: inputs that the policy lists by digest, and nothing else."""

import json
from typing import Any

import pytest

from executor.errors import RequestError
from executor.job.plan import plan_launch
from executor.job.spec import JobSpec, parse_job
from images.lock import load_lock
from policy.load import load_policy
from tests.unit.policy.test_plugins import BOTH, ONNX, TORCH

JOB = {
    "apiVersion": "executor/v1",
    "kind": "script",
    "code": {"path": "main.py"},
    "outputs": [{"name": "model.onnx", "role": "model"}],
    "inputs": {
        "ort": {"uri": "a.so", "sha256": ONNX["sha256"]},
        "torch": {"uri": "b.so", "sha256": TORCH["sha256"]},
        "other": {"uri": "c.so", "sha256": "c" * 64},
    },
}


def spec(*plugins: str, **change: Any) -> JobSpec:
    return parse_job(json.dumps(JOB | {"plugins": list(plugins)} | change).encode(), source="job")


def planned(*plugins: str) -> dict[str, Any]:
    return plan_launch(spec(*plugins), image=load_lock("cpu"), policy=BOTH, code=None).to_wire()


def test_a_plan_says_which_input_is_which_plugin() -> None:
    assert planned()["plugins"] == {}
    assert planned("torch", "ort")["plugins"] == {"ort": "twice-ort", "torch": "twice-torch"}
    assert planned("ort")["plugins"] == {"ort": "twice-ort"}


def test_an_input_that_the_policy_does_not_list_is_no_plugin() -> None:
    with pytest.raises(RequestError, match="input 'other' is no plugin of profile") as refused:
        planned("other")
    assert "twice-ort aaaaaaaaaaaa" in refused.value.hint
    with pytest.raises(RequestError, match="is no plugin") as refused:
        plan_launch(spec("ort"), image=load_lock("cpu"), policy=load_policy("standard"), code=None)
    assert "none" in refused.value.hint


@pytest.mark.parametrize("plugins", [("absent",), ("ort", "ort"), ("../ort",)])
def test_plugins_are_names_of_inputs_each_once(plugins: tuple[str, ...]) -> None:
    with pytest.raises(RequestError):
        spec(*plugins)
