"""A release's plan, run again: bit for bit the same, and where it is not, which tensor and how far.

All ten networks are reproduced by `make reproductions`; one of them in every run of the tests.
"""

import json
import shutil
import struct
import zipfile
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from executor.release.signer import open_host_signer
from executor.state.home import open_home
from signing.bundle import parse_bundle
from signing.verify import verify_release
from tests.integration.conftest import Finished, Host, containers
from tests.unit.signing.forging import plant

LIMITS = {"wall_seconds": 1200, "memory_bytes": 2 << 30, "tmp_bytes": 256 << 20, "pids": 128}
VECTORS = {"name": "vectors.npz", "role": "test-vectors"}
LAYERS = ("GCN", "GraphSAGE mean", "GraphSAGE max", "GAT", "GATv2", "GIN", "TransformerConv")
POOLS = ("mean", "max", "add")
PLANTED = 1e-3


def released(host: Host, job: Path) -> Path:
    done, target = host.run(job)
    assert done.code == 0, done.stderr + done.stdout
    return target


def layer_job(host: Host, model: str) -> Path:
    outputs = [{"name": f"model.{form}", "role": "model"} for form in ("onnx", "pt", "pt2")]
    return host.script_job("pyg_model", *outputs, VECTORS, params={"model": model}, seed=7, limits=LIMITS)


def pool_job(host: Host, pool: str) -> Path:
    outputs = [{"name": "model.onnx", "role": "model"}, VECTORS]
    return host.script_job("pyg_pool", *outputs, params={"pool": pool}, seed=7, limits=LIMITS)


def reproduced(host: Host, release: Path, *options: str) -> tuple[Finished, dict[str, Any]]:
    done = host.call("reproduce", str(release), *options, "--json")
    assert containers() == ""
    return done, {a["name"]: a for a in done.json.get("artifacts", [])}


def change_one_weight(release: Path) -> None:
    """Add 1e-3 to one weight of the ONNX model, and sign everything anew with the host's own keys."""
    path = release / "artifacts/model.onnx"
    data = bytearray(path.read_bytes())
    at = first_weight(bytes(data))
    (value,) = struct.unpack_from("<f", data, at)
    struct.pack_into("<f", data, at, value + PLANTED)
    signer = open_host_signer(open_home(), now=datetime.now(UTC))
    plant(release, signer, "artifacts/model.onnx", bytes(data))
    verify_release(release, signer.expectations())


def first_weight(model: bytes) -> int:
    """Return where the first weight of the first large tensor lies: field `raw_data` (9) of a TensorProto."""
    at, best = 0, (0, 0)
    while (at := model.find(b"\x4a", at)) >= 0:
        size, start = varint(model, at + 1)
        values = model[start : start + size]
        plausible = size % 4 == 0 and 64 <= size <= len(model) - start
        if plausible and size > best[0] and all(abs(v) < 10 for (v,) in struct.iter_unpack("<f", values)):
            best = (size, start)
        at += 1
    assert best[0], "the model has no weights"
    return best[1]


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 35:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            break
    return value, at


def check_both_ways(host: Host, release: Path) -> None:
    done, artifacts = reproduced(host, release)
    assert (done.code, done.json["status"]) == (0, "identical"), done.json
    assert {a["verdict"] for a in artifacts.values()} == {"identical"}
    predicate = json.loads(parse_bundle(Path(done.json["attestation"]).read_bytes()).payload)["predicate"]
    jsonschema.Draft202012Validator(host.call("schema", "reproduction").json).validate(predicate)
    verified = host.call("verify", str(release), "--require", "reproduced", "--json")
    assert (verified.code, len(verified.json["reproduced_by"])) == (0, 1), verified.stderr
    planted = release.with_name(f"{release.name}-planted")
    shutil.copytree(release, planted)
    change_one_weight(planted)
    done, artifacts = reproduced(host, planted)
    assert (done.code, done.json["status"]) == (23, "different"), done.json
    found = artifacts["model.onnx"]
    (tensor,) = found["tensors"]
    assert (found["verdict"], tensor["elements"], tensor["within"]) == ("different", 1, False)
    assert tensor["max_abs"] == pytest.approx(PLANTED, rel=1e-2)
    assert {a["verdict"] for n, a in artifacts.items() if n != "model.onnx"} == {"identical"}
    refused = host.call("verify", str(planted), "--require", "reproduced", "--json")
    assert (refused.code, refused.json["error"]["check"]) == (23, "REPRODUCED")


def test_a_release_is_reproduced_and_a_changed_weight_is_found(host: Host) -> None:
    check_both_ways(host, released(host, layer_job(host, "GAT")))


@pytest.mark.reproductions
@pytest.mark.parametrize("model", LAYERS)
def test_every_layer_is_reproduced(host: Host, model: str) -> None:
    check_both_ways(host, released(host, layer_job(host, model)))


@pytest.mark.reproductions
@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_is_reproduced(host: Host, pool: str) -> None:
    check_both_ways(host, released(host, pool_job(host, pool)))


def test_what_is_near_enough_is_within_the_tolerance_that_is_declared(host: Host, tmp_path: Path) -> None:
    """A job that is not the same twice: what it makes hangs on the moment."""
    outputs = [{"name": "0.npz"}, {"name": "0.npy"}, {"name": "0.json"}]
    release = released(host, host.script_job("moment", *outputs))
    done, artifacts = reproduced(host, release)
    assert (done.code, done.json["status"]) == (23, "different")
    assert artifacts["0.json"]["why"] == "tensors of format 'json' are not compared"
    assert [t["name"] for t in artifacts["0.npz"]["tensors"]] == ["drifts"]
    assert artifacts["0.npz"]["verdict"] == "different"
    done, artifacts = reproduced(host, release, "--atol", "1.5")
    verdicts = {name: a["verdict"] for name, a in artifacts.items()}
    assert verdicts == {"0.npz": "within-tolerance", "0.npy": "within-tolerance", "0.json": "different"}
    bundles = list(release.with_name(f"{release.name}.reproductions").iterdir())
    assert len(bundles) == 2, "they accumulate"
    with zipfile.ZipFile(release / "artifacts/0.npz") as archive:
        assert sorted(archive.namelist()) == ["drifts.npy", "stays.npy"]
    assert host.call("reproduce", str(release), "--atol", "-1").code == 21
    assert host.call("reproduce", str(release), "--inputs", str(tmp_path / "absent")).code == 21


def test_a_release_whose_code_or_inputs_are_gone_needs_them_named(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data.txt"
    data.write_text("input")
    digest = sha256(b"input").hexdigest()
    inputs = {"table": {"uri": str(data), "sha256": digest}}
    job = host.script_job("copy_input", {"name": "0.txt"}, inputs=inputs)
    release = released(host, job)
    exported = tmp_path / "trust.json"
    assert host.call("trust", "export", "--out", str(exported)).code == 0
    code = Path(json.loads(job.read_text())["code"]["path"])
    monkeypatch.setenv("EXECUTOR_HOME", str(tmp_path / "elsewhere"))
    assert host.call("reproduce", str(release)).code == 23, "whom to believe has to be said"
    known = ["--trust-root", str(exported)]
    missing = host.call("reproduce", str(release), *known)
    assert (missing.code, digest in missing.stderr) == (21, True)
    missing = host.call("reproduce", str(release), *known, "--inputs", str(tmp_path))
    assert (missing.code, "--code" in missing.stderr) == (21, True)
    wrong = host.call(
        "reproduce", str(release), *known, "--inputs", str(tmp_path), "--code", str(code.parent / "fork.py")
    )
    assert wrong.code == 21
    done, _ = reproduced(host, release, *known, "--inputs", str(tmp_path), "--code", str(code))
    assert (done.code, done.json["status"]) == (0, "identical"), done.stderr
    # Signed by the keys of elsewhere: it counts for whoever names them, and only then.
    ours = host.call("verify", str(release), "--trust-root", str(exported), "--require", "reproduced")
    assert ours.code == 23
    theirs = tmp_path / "theirs.json"
    assert host.call("trust", "export", "--out", str(theirs)).code == 0
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'schema = "executor.verification-policy/v1"\n[[signer]]\ntrust_root = "trust.json"\n'
        '[reproduced]\nthreshold = 1\n[[reproducer]]\ntrust_root = "theirs.json"\n'
    )
    assert host.call("verify", str(release), "--policy", str(policy)).code == 0
