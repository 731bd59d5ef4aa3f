"""What the gate denies, by way of the real inspection containers."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Finished, Host, containers

MODEL = {"name": "model.onnx", "role": "model"}
TORCHSCRIPT = {"name": "model.pt", "role": "model"}


def denied(host: Host, done: Finished, target: Path) -> dict[str, str]:
    assert (done.code, done.json["status"], done.json["release"]) == (20, "denied", None), done.stderr
    assert not target.exists()
    assert containers() == ""
    record = host.record(done)
    assert record["decision"]["allowed"] is False
    assert Path(done.json["record"] + ".sigstore.json").exists()
    assert replayed(host, done)["findings"] == record["findings"]
    finding: dict[str, str] = record["findings"][0]
    return finding


def replayed(host: Host, done: Finished) -> dict[str, Any]:
    """Make the recorded decision again, on the command line; it must be the same."""
    again = host.call("policy", "replay", "--json", done.json["record"])
    assert (again.code, again.json["status"]) == (0, "same"), again.stdout
    decision: dict[str, Any] = again.json["decision"]
    return decision


def test_an_onnx_with_a_custom_domain_in_a_subgraph_is_denied(host: Host) -> None:
    finding = denied(host, *host.run(host.script_job("evil_onnx", MODEL)))
    assert finding["rule"] == "ONNX-DEFAULT-DENY"
    assert "evil.ops::Run" in finding["detail"]
    assert "then_branch" in finding["place"]
    assert finding["remedy"]


def test_a_torchscript_that_saves_a_file_is_denied(host: Host) -> None:
    finding = denied(host, *host.run(host.script_job("evil_torchscript", TORCHSCRIPT)))
    assert finding["rule"] == "TS-FILES"
    assert "aten::save" in finding["detail"]
    assert finding["place"].startswith("code/__torch__")
    assert finding["remedy"]


@pytest.mark.parametrize(
    "line",
    [
        'x.save("/tmp/written")',
        "f = torch.save",
        'getattr(torch, "save")(x, "/tmp/written")',
        'ops.aten.save(x, "/tmp/written")',
        'getattr(ops.aten, "save")(x, "/tmp/written")',
        "t = torch",
    ],
)
def test_a_torchscript_that_hides_its_operator_is_denied_before_it_is_loaded(host: Host, line: str) -> None:
    done, target = host.run(host.script_job("evil_spelling", TORCHSCRIPT, params={"line": line}))
    denied(host, done, target)
    assert host.record(done)["inspection"]["replay"] is None


def test_a_job_that_sends_nothing_is_denied(host: Host) -> None:
    assert denied(host, *host.run(host.script_job("silent")))["rule"] == "RELEASE-EMPTY"


def test_a_pickle_under_the_name_of_a_model_is_denied(host: Host) -> None:
    assert denied(host, *host.run(host.script_job("evil_pickle", TORCHSCRIPT)))["rule"] == "FORMAT-NOT-ALLOWED"


def test_a_model_without_test_vectors_is_denied(host: Host) -> None:
    assert denied(host, *host.run(host.script_job("no_vectors", MODEL)))["rule"] == "REPLAY-CASES"


def test_a_gpu_is_refused_where_the_engine_has_none(host: Host) -> None:
    from executor.sandbox.docker import DockerEngine

    if DockerEngine().info().cdi:
        pytest.skip("this engine has CDI")
    done, target = host.run(host.script_job("hello", {"name": "greeting.txt"}, gpus=["nvidia.com/gpu=0"]))
    assert (done.code, done.json["status"]) == (31, "host_fault")
    assert "no CDI" in done.json["error"]["message"]
    assert not target.exists()
