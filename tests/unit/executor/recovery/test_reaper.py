"""The process that cleans up after the executor: when it has nothing more to do."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from executor.recovery import reaper
from executor.state.home import Home


class EndlessError(BaseException):
    """It goes on."""


@pytest.mark.parametrize("made_anew", [True, False])
def test_it_ends_where_its_state_directory_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_anew: bool
) -> None:
    home, passes = Home(tmp_path / "home"), []

    def recover(*_: object, **__: Any) -> None:
        passes.append(1)
        if len(passes) == 3:
            shutil.rmtree(home.root)
            if made_anew:
                (tmp_path / "other").mkdir()  # so that it does not get the old one's number
                assert home.runs.is_dir()
        if len(passes) > 3:
            raise EndlessError

    assert home.runs.is_dir()
    monkeypatch.setattr(reaper, "recover", recover)
    monkeypatch.setattr(reaper, "_engine", lambda: None)
    monkeypatch.setattr(reaper, "_FIRST_PASSES_SECONDS", ())
    monkeypatch.setattr(reaper, "_PASS_SECONDS", 0.0)
    reaper._clean_up(home)
    assert len(passes) == 3
