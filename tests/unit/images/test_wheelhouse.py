"""Which wheels fit an image, and what pip is asked."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from images.errors import SourceError
from images.wheelhouse import pip_download, platforms


def test_every_older_glibc_fits_and_no_newer_one() -> None:
    tags = platforms("amd64", "2.36")
    assert (tags[0], tags[-1]) == ("manylinux_2_36_x86_64", "manylinux1_x86_64")
    assert {"manylinux_2_28_x86_64", "manylinux_2_18_x86_64", "manylinux2014_x86_64"} <= set(tags)
    assert "manylinux_2_37_x86_64" not in tags
    assert all(t.endswith("_aarch64") for t in platforms("arm64", "2.28"))


def download(monkeypatch: pytest.MonkeyPatch, folder: Path, *, code: int, constraints: list[str] | None) -> list[str]:
    seen: list[str] = []

    def run(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        seen.extend(command)
        if constraints:
            assert (folder / "constraints.txt").read_text() == "\n".join(constraints)
        return subprocess.CompletedProcess(command, code, "", "WARNING: noise\nERROR: No matching distribution\n")

    monkeypatch.setattr("images.wheelhouse.subprocess.run", run)
    pip_download(["a==1"], folder, python="3.11", architecture="amd64", glibc="2.36", constraints=constraints)
    return seen


def test_a_locked_download_brings_nothing_that_was_not_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = download(monkeypatch, tmp_path, code=0, constraints=None)
    assert "--no-deps" in command
    assert "--only-binary=:all:" in command
    assert command[-2:] == ["--", "a==1"]


def test_constraints_hold_what_shall_stay_and_leave_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = download(monkeypatch, tmp_path, code=0, constraints=["b===2"])
    assert "--no-deps" not in command
    assert list(tmp_path.iterdir()) == []


def test_what_pip_cannot_give_is_said_without_its_noise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"could not download a==1: No matching distribution$"):
        download(monkeypatch, tmp_path, code=1, constraints=None)
