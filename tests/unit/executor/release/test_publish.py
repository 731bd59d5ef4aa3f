"""The last steps before a release has its name: bytes hashed once more, and everything on the disk."""

import gc
import os
from pathlib import Path

import pytest

from executor.errors import HostError
from executor.release import publish as release_module
from signing.layout import for_each
from signing.local import LocalTrustDomain
from signing.verify import verify_release
from tests.unit.signing.approved import approve_files
from tests.unit.signing.conftest import domain, make_release

__all__ = ["domain"]
LARGE = 4 << 20


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


def watched(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    """Return what a function of the module will have been called with."""
    calls: list[object] = []
    function = getattr(release_module, name)

    def call(argument: object) -> object:
        calls.append(argument)
        return function(argument)

    monkeypatch.setattr(release_module, name, call)
    return calls


@pytest.mark.parametrize(("files", "at_once"), [(200, False), (300, True)])
def test_many_files_reach_the_disk_at_once(
    tmp_path: Path, domain: LocalTrustDomain, monkeypatch: pytest.MonkeyPatch, files: int, at_once: bool
) -> None:
    calls, each = watched(monkeypatch, "_sync_file_system"), watched(monkeypatch, "_sync_one")
    gated = approve_files(tmp_path, {f"{i}.txt": b"%d" % i for i in range(files)})
    make_release(tmp_path, domain, "release", gated=gated)
    assert (len(calls), len(each) > files) == (int(at_once), not at_once)


def test_where_the_file_system_cannot_be_synced_at_once_each_file_is(
    tmp_path: Path, domain: LocalTrustDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_module, "_sync_file_system", lambda _: False)
    each = watched(monkeypatch, "_sync_one")
    gated = approve_files(tmp_path, {f"{i}.txt": b"%d" % i for i in range(300)})
    make_release(tmp_path, domain, "release", gated=gated)
    assert len(each) > 300


def test_of_several_errors_that_of_the_first_file_is_raised() -> None:
    def fail(item: int) -> None:
        if item in (2, 4):
            raise ValueError(str(item))

    for size in (1, LARGE):
        with pytest.raises(ValueError, match="2"):
            for_each(fail, [1, 2, 3, 4], size=lambda _, size=size: size)  # type: ignore[misc]
