"""The main job on the real engine, and what becomes of its release when somebody touches it."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier, policy

from signing.bundle import parse_bundle
from signing.domain import identity_of
from tests.integration.conftest import Host

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def karate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Host, Path]:
    """Run the karate club once for this file."""
    folder = tmp_path_factory.mktemp("karate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXECUTOR_HOME", str(folder / "home"))
        host = Host(folder)
        done = host.call("run", str(ROOT / "examples/karate-club.yaml"), "--out", str(folder / "release"), "--json")
    assert done.code == 0, done.stderr
    return host, folder


@pytest.fixture
def release(karate: tuple[Host, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the release to spoil, and the home whose trust it is verified by."""
    monkeypatch.setenv("EXECUTOR_HOME", str(karate[1] / "home"))
    shutil.copytree(karate[1] / "release", tmp_path / "release")
    return tmp_path / "release"


def verify(host: Host, release: Path) -> tuple[int, str]:
    done = host.call("verify", str(release))
    return done.code, done.stdout + done.stderr


def test_the_release_holds_what_was_promised(release: Path) -> None:
    files = {p.relative_to(release).as_posix() for p in release.rglob("*") if p.is_file()}
    assert {
        "artifacts/model.onnx",
        "artifacts/model.pt",
        "artifacts/test-vectors.npz",
        "attestations/artifacts/model.onnx.sigstore.json",
        "attestations/release.sigstore.json",
        "attestations/provenance.sigstore.json",
        "manifest.json",
        "SHA256SUMS",
    } <= files
    details = json.loads((release / "manifest.json").read_bytes())["details"]
    assert details["environment"]["torch"] == "2.13.0+cpu"
    assert (details["environment"]["cuda"], details["environment"]["cudnn"]) == ("cpu", "none")
    onnx = details["artifacts"]["model.onnx"]
    assert onnx["facts"]["opset_imports"] == {"": 20}
    assert {o["name"] for o in onnx["operators"]} >= {"ScatterElements", "Gemm", "Relu"}
    for model in details["replay"]["models"].values():
        assert {c["case"] for c in model["cases"]} == {"whole", "third", "small", "no-edges", "loop"}
        assert all(c["argmax_agreement"] == 1.0 and c["max_abs"] <= c["allowed"] for c in model["cases"])


def test_its_decision_comes_out_of_the_record_again(karate: tuple[Host, Path], release: Path, tmp_path: Path) -> None:
    host, (record,) = karate[0], (karate[1] / "home/log").glob("*/record.json")
    again = host.call("policy", "replay", "--json", str(record), "--sarif", str(tmp_path / "findings.sarif"))
    assert (again.code, again.json["status"], again.json["decision"]["allowed"]) == (0, "same", True)
    assert json.loads((tmp_path / "findings.sarif").read_text())["runs"][0]["results"] == []
    document = json.loads(record.read_text())
    document["artifacts"][0]["sha256"] = "0" * 64
    (tmp_path / "record.json").write_text(json.dumps(document))
    assert host.call("policy", "replay", str(tmp_path / "record.json")).code == 23


def test_a_reviewer_sees_what_its_files_hold(karate: tuple[Host, Path], release: Path, tmp_path: Path) -> None:
    host = karate[0]
    files = [str(release / "artifacts" / name) for name in ("model.onnx", "model.pt", "test-vectors.npz")]
    seen = host.call("policy", "inventory", "--json", *files)
    assert (seen.code, seen.json["status"], seen.json["findings"]) == (0, "allowed", []), seen.stderr
    details = json.loads((release / "manifest.json").read_bytes())["details"]["artifacts"]
    for name, held in seen.json["files"].items():
        assert held["operators"] == details[name]["operators"]
        assert held["sha256"] == hashlib.sha256((release / "artifacts" / name).read_bytes()).hexdigest()
    (tmp_path / "notes.txt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    refused = host.call("policy", "inventory", "--json", str(tmp_path / "notes.txt"))
    assert (refused.code, refused.json["findings"][0]["rule"]) == (20, "FORMAT-NOT-ALLOWED")
    assert host.call("policy", "inventory", str(tmp_path / "absent.onnx")).code == 21
    assert host.call("policy", "inventory", files[0], files[0]).code == 21
    assert list((karate[1] / "home/run").iterdir()) == []


def test_the_release_tells_nothing_of_the_machine_that_made_it(release: Path) -> None:
    for path in release.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"dist-packages" not in data, path
            assert str(ROOT).encode() not in data, path


def test_sha256sum_agrees(release: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=release, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_verify_accepts_it_and_lists_what_it_checked(karate: tuple[Host, Path], release: Path) -> None:
    code, text = verify(karate[0], release)
    assert code == 0, text
    assert "ok    SIGNATURE" in text
    assert "not checked:" in text


def test_verify_accepts_it_on_another_host_that_names_the_trust_root(
    karate: tuple[Host, Path], release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = karate[1] / "home/trust"
    identity = identity_of(json.loads((trust / "domain.json").read_bytes())["id"])
    monkeypatch.setenv("EXECUTOR_HOME", str(tmp_path / "elsewhere"))
    assert karate[0].call("verify", str(release)).code == 23
    named = [
        "--trust-root",
        str(trust / "trusted_root.json"),
        "--identity",
        identity.subject,
        "--issuer",
        identity.issuer,
    ]
    assert karate[0].call("verify", str(release), *named).code == 0
    named[3] = identity.subject + "x"
    assert karate[0].call("verify", str(release), *named).code == 23


def test_the_stock_sigstore_client_accepts_every_bundle(karate: tuple[Host, Path], release: Path) -> None:
    trust = karate[1] / "home/trust"
    identity = identity_of(json.loads((trust / "domain.json").read_bytes())["id"])
    verifier = Verifier(trusted_root=TrustedRoot.from_file(str(trust / "trusted_root.json")))
    bundles = sorted(release.rglob("*.sigstore.json"))
    assert len(bundles) == 9
    for path in bundles:
        found = policy.Identity(identity=identity.subject, issuer=identity.issuer)
        kind, payload = verifier.verify_dsse(Bundle.from_json(path.read_bytes()), found)
        assert kind == "application/vnd.in-toto+json"
        assert json.loads(payload)["_type"] == "https://in-toto.io/Statement/v1"


def test_its_statements_fit_the_published_schemas(karate: tuple[Host, Path], release: Path) -> None:
    (log,) = (karate[1] / "home/log").iterdir()
    bundles = {name: release / f"attestations/{name}.sigstore.json" for name in ("request", "sandbox", "decision")}
    bundles |= {
        "release": release / "attestations/release.sigstore.json",
        "artifact": release / "attestations/artifacts/model.onnx.sigstore.json",
        "record": log / "record.json.sigstore.json",
    }
    for name, path in bundles.items():
        predicate = json.loads(parse_bundle(path.read_bytes()).payload)["predicate"]
        jsonschema.Draft202012Validator(karate[0].call("schema", name).json).validate(predicate)


def test_every_change_to_the_release_is_refused_naming_the_file(karate: tuple[Host, Path], release: Path) -> None:
    """Flip, remove, add, rename and swap, by the command itself, on one file of each kind."""
    host = karate[0]
    names = [
        "artifacts/model.onnx",
        "attestations/artifacts/model.pt.sigstore.json",
        "manifest.json",
        "SHA256SUMS",
        "plan.json",
    ]
    for name in names:
        path = release / name
        data = path.read_bytes()
        path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
        assert verify(host, release)[0] == 23
        assert name in verify(host, release)[1]
        path.unlink()
        assert name in verify(host, release)[1]
        path.with_name("renamed").write_bytes(data)
        code, text = verify(host, release)
        assert code == 23
        assert name in text or "renamed" in text
        path.with_name("renamed").rename(path)
    (release / "artifacts/added.bin").touch()
    code, text = verify(host, release)
    assert code == 23
    assert "artifacts/added.bin" in text
    (release / "artifacts/added.bin").unlink()
    one, two = release / names[0], release / "artifacts/model.pt"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    code, text = verify(host, release)
    assert code == 23
    assert names[0] in text
    one.write_bytes(first)
    two.write_bytes(second)
    assert verify(host, release)[0] == 0


def test_the_same_job_gives_the_same_artifacts_again(karate: tuple[Host, Path], tmp_path: Path) -> None:
    host = Host(tmp_path)
    done = host.call("run", str(ROOT / "examples/karate-club.yaml"), "--out", str(tmp_path / "again"), "--json")
    assert done.code == 0, done.stderr
    for name in ("model.onnx", "model.pt", "test-vectors.npz"):
        one, two = (f / "artifacts" / name for f in (karate[1] / "release", tmp_path / "again"))
        assert one.read_bytes() == two.read_bytes(), name
