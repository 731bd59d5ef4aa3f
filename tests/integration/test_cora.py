"""The Cora citation graph, where its tables lie beside the checkout: trained, exported, released over three seeds."""

import json
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import Host

EXAMPLE = Path(__file__).parents[2] / "examples/cora-gcn.yaml"
TABLES = EXAMPLE.parent / "../../shared/data/cora"

needs_tables = pytest.mark.skipif(
    not (TABLES / "nodes.parquet").exists(), reason="the Cora tables are not beside this checkout"
)


@needs_tables
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_model_is_as_good_as_published_and_both_exports_agree_with_it(
    host: Host, tmp_path: Path, seed: int
) -> None:
    """Kipf and Welling 2017, table 2: 81.5 % on the public split."""
    job = yaml.safe_load(EXAMPLE.read_text())
    job["seed"] = seed
    for item in job["inputs"].values():
        item["uri"] = str((EXAMPLE.parent / item["uri"]).resolve())
    (tmp_path / "job.json").write_text(json.dumps(job))
    done, target = host.run(tmp_path / "job.json")
    assert done.code == 0, done.stderr
    assert 0.79 <= done.json["metrics"]["test_accuracy"] <= 0.84
    replay = json.loads((target / "manifest.json").read_bytes())["details"]["replay"]["models"]
    assert set(replay) == {"model.onnx", "model.pt"}
    for model in replay.values():
        cases = {c["case"]: c for c in model["cases"]}
        assert cases["whole"]["shape"] == [2708, 7]
        assert cases["third"]["shape"] == [902, 7]
        assert all(c["argmax_agreement"] == 1.0 for c in cases.values())


def test_a_table_of_another_digest_is_refused(host: Host, tmp_path: Path) -> None:
    for name in ("nodes", "edges"):
        (tmp_path / name).write_bytes(b"PAR1")
    job = {
        "apiVersion": "executor/v1",
        "kind": "train",
        "inputs": {n: {"uri": n, "sha256": "0" * 64} for n in ("nodes", "edges")},
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    done, _ = host.run(tmp_path / "job.json")
    assert done.code == 21
    assert "the job names" in done.stderr
