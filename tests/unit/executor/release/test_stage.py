"""What lies in a staged release: the bytes that were received, hashed once more, and a manifest of all of them."""

import gc
import os
from pathlib import Path

import pytest

from executor.errors import HostError
from executor.release.stage import stage
from signing.local import LocalTrustDomain
from signing.verify import verify_release
from tests.unit.signing.approved import approve_files
from tests.unit.signing.conftest import domain, make_content, make_release

__all__ = ["domain"]
LARGE = 4 << 20


def test_the_manifest_names_every_file_in_order(tmp_path: Path) -> None:
    gated = approve_files(tmp_path, {"sub/b.txt": b"beta", "a.txt": b"alpha"})
    (tmp_path / "staging").mkdir()
    manifest = stage(gated, make_content("run-1", gated), {"plan.json": b"{}"}, tmp_path / "staging")
    assert [(f.path, f.size, f.role, f.media_type) for f in manifest.files] == [
        ("artifacts/a.txt", 5, "data", "text/plain; charset=utf-8"),
        ("artifacts/sub/b.txt", 4, "data", "text/plain; charset=utf-8"),
        ("plan.json", 2, "plan", "application/json"),
    ]
    assert (tmp_path / "staging/artifacts/sub/b.txt").read_bytes() == b"beta"


def test_an_artifact_that_changed_since_it_was_received_is_not_released(
    tmp_path: Path, domain: LocalTrustDomain
) -> None:
    for changed in (b"alpHa", b"alpha more", b""):
        gated = approve_files(tmp_path, {"a.txt": b"alpha"})
        gated.artifacts[0].path.write_bytes(changed)
        with pytest.raises(HostError, match="changed between"):
            make_release(tmp_path, domain, "release", gated=gated)
        assert not list(tmp_path.glob("*release*"))
        assert gc.isenabled()


@pytest.mark.parametrize("large", [0, 1, 3])
def test_small_and_large_files_are_staged_alike(tmp_path: Path, domain: LocalTrustDomain, large: int) -> None:
    files = {f"large-{i}": bytes([i]) * (LARGE + i) for i in range(large)} | {"small": b"x", "empty": b""}
    gated = approve_files(tmp_path, files)
    release = make_release(tmp_path, domain, "release", gated=gated)
    verify_release(release, domain.expectations())
    for name, data in files.items():
        assert (release / "artifacts" / name).read_bytes() == data


def test_files_on_another_file_system_are_copied(
    tmp_path: Path, domain: LocalTrustDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    gated = approve_files(tmp_path, {"a.txt": b"alpha"})
    release = make_release(tmp_path, domain, "release", gated=gated)
    assert (release / "artifacts/a.txt").stat().st_nlink == 1
    verify_release(release, domain.expectations())
