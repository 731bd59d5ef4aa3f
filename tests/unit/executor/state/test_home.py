"""The state directory: private at every level, and an error with a hint where it cannot be."""

from pathlib import Path

import pytest

from executor.errors import UnsupportedError
from executor.state.home import Home, open_home


def test_every_level_of_the_home_is_the_owners_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "above/home")
    for folder in (home.root, home.blobs, home.blobs.parent, home.trust):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert home.root.parent.stat().st_mode & 0o077


def test_a_home_that_cannot_be_made_is_refused_with_a_hint() -> None:
    with pytest.raises(UnsupportedError) as refused:
        _ = Home(Path("/proc/nowhere")).cas
    assert "EXECUTOR_HOME" in refused.value.hint


def test_the_environment_names_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert open_home().root == tmp_path / "home"
    monkeypatch.delenv("EXECUTOR_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    assert open_home().root == Path("/x/executor")
