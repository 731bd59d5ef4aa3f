"""apt's lists and answers: what of them counts, without a mirror."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from images.apt import IsolatedApt
from images.debian import DebRecord
from images.errors import InputError, SourceError
from images.lock import SignedIndex


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch) -> IsolatedApt:
    """A state with three suites of one release and one of another, each naming one package."""
    found = IsolatedApt(architecture="amd64")
    found.lists.mkdir()
    for suite in ("bookworm", "bookworm-updates", "bookworm-security", "sid"):
        (found.lists / f"mirror_dists_{suite}_InRelease").write_text(suite)

    def read(path: Path, *, architecture: str, signers: object) -> tuple[SignedIndex, list[DebRecord]]:
        suite = path.read_text()  # what is signed; the file's name is what the mirror says
        name = f"from-{suite}"
        index = SignedIndex(suite=suite, date="", release_sha256="", packages_sha256=suite, signers=("K",))
        record = DebRecord(
            name=name, version="1", arch=architecture, filename="", size=0, sha256="", source="", suite=suite
        )
        return index, [record]

    monkeypatch.setattr("images.apt.read_index", read)
    return found


def test_a_release_is_its_suite_its_updates_and_its_security_updates(apt: IsolatedApt) -> None:
    chosen = {"from-bookworm-security": "1", "from-bookworm": "1"}
    records, indexes = apt.records(chosen, release="bookworm", signers=["K"])
    assert [r.name for r in records] == sorted(chosen)
    assert {i.suite for i in indexes} == {"bookworm", "bookworm-updates", "bookworm-security"}


@pytest.mark.parametrize("served", ["bullseye", "sid", "bookworm", ""])
def test_a_suite_that_is_served_in_the_place_of_another_is_refused(apt: IsolatedApt, served: str) -> None:
    """Signed as well as any, and so without the security updates that it hides."""
    (apt.lists / "mirror_dists_bookworm-security_InRelease").write_text(served)
    with pytest.raises(InputError, match=f"serves Debian {served} in the place of bookworm-security"):
        apt.records({"from-bookworm": "1"}, release="bookworm", signers=["K"])


def test_a_package_of_another_release_or_version_is_not_named(apt: IsolatedApt) -> None:
    for chosen in ({"from-sid": "1"}, {"from-bookworm": "2"}):
        with pytest.raises(InputError, match="no signed index of Debian bookworm names"):
            apt.records(chosen, release="bookworm", signers=["K"])


def answering(monkeypatch: pytest.MonkeyPatch, out: str, *, code: int = 0, errors: str = "") -> list[list[str]]:
    seen: list[list[str]] = []

    def run(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        return subprocess.CompletedProcess(command, code, out, errors)

    monkeypatch.setattr("images.apt.subprocess.run", run)
    return seen


def test_what_apt_would_install_or_upgrade_is_chosen_and_nothing_else(
    apt: IsolatedApt, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = (
        "Reading state information...\nInst libc6 (2.36-9 Debian:12/stable [amd64])\n"
        "Inst libssl3 [3.0.20-1] (3.0.22-1 Debian-Security:12 [amd64])\n"
        "Remv old [1]\nConf libc6 (2.36-9 Debian [amd64])\n"
    )
    seen = answering(monkeypatch, out)
    assert apt.choose(["libssl3"]) == {"libc6": "2.36-9", "libssl3": "3.0.22-1"}
    assert seen[0][-2:] == ["--", "libssl3"], "a name is never an option"


def test_what_apt_refuses_is_said_without_its_warnings(apt: IsolatedApt, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "", code=100, errors="W: noise\nE: Unable to locate package x\nE: more\n")
    with pytest.raises(SourceError, match=r"apt-get install failed: Unable to locate package x$"):
        apt.choose(["x"])


def test_an_apt_that_does_not_end_or_is_not_there_is_worth_a_retry(
    apt: IsolatedApt, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, words in (
        (subprocess.TimeoutExpired("apt-get", 1), "did not end"),
        (FileNotFoundError(), "not installed"),
    ):

        def run(*_args: Any, error: Exception = error, **_options: Any) -> None:
            raise error

        monkeypatch.setattr("images.apt.subprocess.run", run)
        with pytest.raises(SourceError, match=words):
            apt.choose(["x"])
