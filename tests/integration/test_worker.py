"""The worker's own code, run in the image: what needs torch, onnx and pyarrow cannot be tested on the host."""

import json
from typing import Any

import pytest

from tests.integration.conftest import Host


def report(host: Host, script: str, name: str) -> dict[str, Any]:
    job = host.script_job(script, {"name": name, "role": "report"}, limits={"memory_bytes": 1 << 30})
    done, target = host.run(job)
    assert done.code == 0, done.stderr
    document: dict[str, Any] = json.loads((target / "artifacts" / name).read_text())
    return document


def test_tables_that_would_train_to_nonsense_are_refused_saying_why(host: Host) -> None:
    said = report(host, "tables", "said.json")
    assert said.pop("good") == "taken"
    assert said.pop("arrow") == [[0, 1], [1, 0]]
    expected = {
        "no column": "no column 'label'",
        "null label": "column 'label'",
        "text ids": "column 'id' is string",
        "same id twice": "an id of its own",
        "negative label": "labels must count from 0",
        "huge label": "labels must count from 0",
        "ragged features": "fixed-size list",
        "null feature": "empty values",
        "infinite feature": "not finite",
        "no train split": "no node has the split 'train'",
        "no nodes": "needs nodes",
        "unknown node": "does not have",
    }
    assert set(said) == set(expected)
    for name, words in expected.items():
        assert words in said[name], name


def test_an_onnx_that_hides_something_is_seen_through(host: Host) -> None:
    seen = report(host, "onnx_inventory", "seen.json")
    assert seen.pop("good") == [["::Relu"], []]
    assert seen.pop("stripped") == []
    assert "::Hidden" in seen.pop("subgraph")[0]
    assert "::Hidden" in seen.pop("deep")[0]
    expected = {
        "too deep": "ONNX-DEPTH",
        "function": "ONNX-LOCAL-FUNCTION",
        "external": "ONNX-EXTERNAL-DATA",
        "external in constant": "ONNX-EXTERNAL-DATA",
        "training": "ONNX-TRAINING-INFO",
        "metadata": "ONNX-METADATA",
        "node metadata": "ONNX-METADATA",
        "documentation": "ONNX-METADATA",
        "two imports": "ONNX-OPSET-IMPORT",
        "no node": "ONNX-EMPTY-GRAPH",
        "unknown field": "ONNX-UNKNOWN-FIELD",
        "repeated field": "ONNX-FORM",
        "other order": "ONNX-FORM",
        "polyglot": "ONNX-POLYGLOT",
        "cut off": "ONNX-MALFORMED",
        "empty": "ONNX-EMPTY-GRAPH",
    }
    assert set(seen) == set(expected)
    for name, finding in expected.items():
        assert finding in seen[name][1], name


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [("leave_well", 0, ""), ("leave_badly", 10, "no rows in the table"), ("not_a_number", 10, "only finite numbers")],
)
def test_how_a_script_ends_is_how_its_job_ends(host: Host, script: str, code: int, words: str) -> None:
    done, _ = host.run(host.script_job(script, {"name": "a.txt"}))
    assert done.code == code, done.stderr
    assert words in done.json["outcome"]["reason"]


def test_an_inventory_within_its_bounds_passes_and_beyond_each_denies_its_artifact(host: Host) -> None:
    job = host.script_job(
        "inventory_bounds",
        {"name": "seen.json", "role": "report"},
        limits={"memory_bytes": 3 << 30, "wall_seconds": 1200, "pids": 128},
    )
    done, target = host.run(job)
    assert done.code == 0, (done.json.get("outcome"), done.stderr)
    seen = json.loads((target / "artifacts/seen.json").read_text())
    beyond = {
        "cpu": "more than 2 CPU seconds",
        "wall": "too long",
        "memory": "ended with status",
        "report": "10000 bytes",
    }
    for bound, words in beyond.items():
        assert seen.pop(f"{bound}, within") == []
        (finding,) = seen.pop(f"{bound}, beyond")
        assert finding.startswith("INVENTORY-FAILED")
        assert words in finding
    assert seen == {"together": [False] * 9 + [True] * 3}


def test_what_threads_and_forked_children_send_never_mixes(host: Host) -> None:
    job = host.script_job("threads", {"name": "a.txt"}, {"name": "b.txt"}, {"name": "c.txt"}, limits={"pids": 64})
    done, target = host.run(job)
    assert done.code == 0, done.stderr
    sizes = {path.name: path.stat().st_size for path in (target / "artifacts").iterdir()}
    assert sizes == {"a.txt": 6 << 20, "b.txt": 6 << 20, "c.txt": 4}


def test_what_a_job_says_wrongly_is_an_error_that_names_it(host: Host) -> None:
    job = host.script_job("wrong_words", {"name": "a.json"}, {"name": "b.txt"}, {"name": "found.json"})
    done, target = host.run(job)
    assert done.code == 0, done.stderr
    found = json.loads((target / "artifacts/found.json").read_text())
    expected = {
        "text for a number": "TypeError: phase: numbers only",
        "text that is a number": "TypeError: loss: numbers only",
        "a name with a space": "ValueError: not a name: 'a b'",
        "an escape": "ValueError: not a name",
        "no name": "ValueError: not a name: ''",
        "256 metrics": "taken",
        "257 metrics": "ValueError: 257 metrics: at most 256",
        "65 values": "ValueError: 65 values: at most 64",
        "64 values": "taken",
        "a numpy number": "taken",
        "an array": "TypeError: an output is bytes, text or a pathlib.Path: ndarray",
        "a mapping": "TypeError: an output is bytes, text or a pathlib.Path: dict",
        "a path as text": "TypeError: a text that is the path of a file: pass pathlib.Path",
        "a role that is none": "ValueError: role 'reports': one of model, test-vectors, report, data",
        "a view of numbers": "taken",
        "sent twice": "ValueError: output 'a.json' was sent already",
        "a path": "taken",
    }
    assert set(found) == set(expected)
    for name, words in expected.items():
        assert found[name].startswith(words), (name, found[name])
    assert len(done.json["metrics"]) == 256
    assert done.json["warnings"] == []
