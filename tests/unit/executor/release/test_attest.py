"""What is stated of a staged release, and by which files."""

import json
from datetime import UTC, datetime
from pathlib import Path

from executor.release.attest import attest
from executor.release.stage import stage
from signing.local import LocalTrustDomain
from tests.unit.signing.approved import approve_files
from tests.unit.signing.conftest import domain, make_content

__all__ = ["domain"]


def test_each_stage_and_each_artifact_has_a_bundle(tmp_path: Path, domain: LocalTrustDomain) -> None:
    gated = approve_files(tmp_path, {"a.txt": b"alpha", "sub/b.txt": b"beta"})
    staging = tmp_path / "staging"
    staging.mkdir()
    content = make_content("run-1", gated)
    manifest = stage(gated, content, {}, staging)
    attest(domain, manifest, content, staging, now=datetime.now(UTC))
    bundles = {str(path.relative_to(staging / "attestations")) for path in staging.rglob("*.sigstore.json")}
    stages = ("request", "sandbox", "decision", "provenance", "release", "summary")
    assert bundles == {f"{name}.sigstore.json" for name in (*stages, "artifacts/a.txt", "artifacts/sub/b.txt")}
    assert json.loads((staging / "manifest.json").read_bytes())["run_id"] == "run-1"
    assert len((staging / "SHA256SUMS").read_text().splitlines()) >= 2
