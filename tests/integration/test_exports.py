"""No false denial: what PyG exports of its usual layers is released, in every format, and replayed on other graphs."""

from pathlib import Path

import pytest

from tests.integration.conftest import Host

LIMITS = {"wall_seconds": 1200, "memory_bytes": 2 << 30, "tmp_bytes": 256 << 20, "pids": 128}
MODELS = ("GCN", "GraphSAGE mean", "GraphSAGE max", "GAT", "GATv2", "GIN", "TransformerConv")


def check_released(host: Host, job: Path) -> None:
    done, _ = host.run(job)
    assert done.json.get("findings") == [], done.json
    assert done.code == 0, done.stderr


@pytest.mark.parametrize("model", MODELS)
def test_an_honest_export_is_released(host: Host, model: str) -> None:
    job = host.script_job(
        "pyg_model",
        {"name": "model.onnx", "role": "model"},
        {"name": "model.pt", "role": "model"},
        {"name": "model.pt2", "role": "model"},
        {"name": "vectors.npz", "role": "test-vectors"},
        params={"model": model},
        seed=7,
        limits=LIMITS,
    )
    check_released(host, job)


@pytest.mark.parametrize("pool", ["mean", "max", "add"])
def test_a_network_that_pools_over_graphs_is_released(host: Host, pool: str) -> None:
    """In ONNX alone: tracing bakes the number of graphs in, and torch.export cannot export it (torch 2.13, 2026-11)."""
    job = host.script_job(
        "pyg_pool",
        {"name": "model.onnx", "role": "model"},
        {"name": "vectors.npz", "role": "test-vectors"},
        params={"pool": pool},
        seed=7,
        limits=LIMITS,
    )
    check_released(host, job)


def test_a_trace_that_holds_for_one_size_only_is_not_exported(host: Host) -> None:
    done, _ = host.run(host.script_job("baked", {"name": "model.pt", "role": "model"}, limits={"tmp_bytes": 256 << 20}))
    assert done.code == 10
    assert "on a graph of another size" in done.json["outcome"]["reason"]
