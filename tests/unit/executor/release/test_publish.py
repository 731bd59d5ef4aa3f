"""The last step before a release has its name: everything is on the disk."""

from pathlib import Path

import pytest

from executor.release import publish as release_module
from signing.layout import for_each
from signing.local import LocalTrustDomain
from tests.unit.signing.approved import approve_files
from tests.unit.signing.conftest import domain, make_release

__all__ = ["domain"]
LARGE = 4 << 20


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
