"""Owners and the sweep: the dead lose what they left, the living nothing."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.errors import HostError
from executor.sandbox.config import ContainerRequest
from executor.state import owner as owner_module
from executor.state.home import Home
from executor.state.owner import (
    LABEL_OWNER,
    Owner,
    claim_run_folder,
    discard_run_folder,
    labels_for,
    note_staging,
    parse_owner,
    sweep,
    this_process,
)
from signing.files import staged_path
from tests.fakes.clock import until
from tests.fakes.engine import FakeEngine
from tests.unit.executor.sandbox.test_config import CONFIG

DEADLINE = time.time() + 60
ME = this_process(deadline=DEADLINE)
DEAD = replace(ME, started=ME.started + 1)
UNSEEN = replace(ME, boot_id="another-boot")
OVERDUE = replace(UNSEEN, deadline=int(time.time()) - 3700)


def test_an_owner_is_written_and_parsed_the_same() -> None:
    assert parse_owner(str(ME)) == ME


@pytest.mark.parametrize("text", ["", "a", "a:b:c:d:e", "a:1:2:3", ":1:2:3:4", "a:1:2:3:-4", "a:1:2:3:4:5"])
def test_a_label_of_somebody_else_is_no_owner(text: str) -> None:
    assert parse_owner(text) is None


def test_this_process_lives_and_a_reused_process_id_does_not() -> None:
    assert ME.alive
    assert not DEAD.alive


@pytest.mark.parametrize("elsewhere", [{"boot_id": "another-boot"}, {"namespace": ME.namespace + 1}])
def test_an_owner_that_cannot_be_seen_lives_until_it_is_overdue(elsewhere: dict[str, Any]) -> None:
    unseen = replace(ME, **elsewhere)
    assert unseen.alive
    assert replace(unseen, deadline=int(time.time()) - 3500).alive
    assert not replace(unseen, deadline=int(time.time()) - 3700).alive


def test_a_process_that_ended_is_dead_before_it_is_reaped() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
    owner = replace(ME, pid=child.pid, started=started)
    assert owner.alive
    child.kill()
    until(lambda: not owner.alive)
    child.wait()


def container(engine: FakeEngine, home: Home, owner: Owner, name: str) -> str:
    labels = tuple((k, str(owner) if k == LABEL_OWNER else v) for k, v in labels_for(home, "r", wall_seconds=1))
    name = f"sealed-executor-r-{name}"
    return engine.create(ContainerRequest(name=name, config=CONFIG, folder=home.root, labels=labels, user=1))


def test_the_sweep_removes_containers_of_the_dead_only(home: Path, tmp_path: Path) -> None:
    engine, mine = FakeEngine(lambda _: None), Home(home)
    dead, overdue = container(engine, mine, DEAD, "c"), container(engine, mine, OVERDUE, "d")
    kept = {container(engine, mine, ME, "e"), container(engine, mine, UNSEEN, "f")}
    kept.add(container(engine, Home(tmp_path / "another"), DEAD, "g"))
    assert sweep(engine, mine) == ["container sealed-executor-r-c", "container sealed-executor-r-d"]
    assert engine.removed == [dead, overdue]
    assert set(engine.containers) == kept


def network(engine: FakeEngine, home: Home, owner: Owner, name: str) -> str:
    labels = tuple((k, str(owner) if k == LABEL_OWNER else v) for k, v in labels_for(home, "r", wall_seconds=1))
    engine.create_network(name, labels=labels, subnet=None)
    return name


def test_the_sweep_removes_networks_of_the_dead_only(home: Path, tmp_path: Path) -> None:
    engine, mine = FakeEngine(lambda _: None), Home(home)
    network(engine, mine, DEAD, "sealed-executor-r-egress-network")
    kept = {network(engine, mine, owner, f"sealed-executor-r-{owner.boot_id}") for owner in (ME, UNSEEN)}
    kept.add(network(engine, mine, DEAD, "a-network-of-somebody-elses"))
    kept.add(network(engine, Home(tmp_path / "another"), DEAD, "sealed-executor-r-another"))
    assert sweep(engine, mine) == ["network sealed-executor-r-egress-network"]
    assert set(engine.networks) == kept


def test_of_several_containers_that_the_engine_does_not_remove_one_is_waited_for(home: Path) -> None:
    engine, asked = FakeEngine(lambda _: None), []

    def remove(container_id: str, *, seconds: float | None = None) -> None:
        asked.append((container_id, seconds))
        raise HostError("no answer in time")

    engine.remove = remove  # type: ignore[method-assign]
    first = container(engine, Home(home), DEAD, "c")
    container(engine, Home(home), DEAD, "d")
    folder = claim_run_folder(Home(home), "run-1", wall_seconds=60)
    (folder / "owner").write_text(str(DEAD))
    assert sweep(engine, Home(home)) == ["run folder run-1"]
    assert asked == [(first, 5.0)]


def test_a_container_of_an_image_that_was_committed_from_one_of_ours_is_left_alone(home: Path) -> None:
    engine, mine = FakeEngine(lambda _: None), Home(home)
    identifier = container(engine, mine, DEAD, "c")
    request = engine.containers[identifier].request
    engine.containers[identifier].request = replace(request, name="busy_hopper")
    assert sweep(engine, mine) == []
    assert set(engine.containers) == {identifier}


def test_a_folder_that_vanishes_under_the_sweep_is_no_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (Home(home).runs / "gone").mkdir()
    real = owner_module._folder_owner

    def vanish(folder: Path) -> Owner | None:
        folder.rmdir()
        return real(folder)

    monkeypatch.setattr(owner_module, "_folder_owner", vanish)
    assert sweep(None, Home(home)) == []


def test_the_sweep_removes_the_run_folder_and_the_staged_release_of_the_dead(home: Path, tmp_path: Path) -> None:
    state = Home(home)
    folder = claim_run_folder(state, "run-1", wall_seconds=60)
    staging = tmp_path / ".rel.run-1.partial"
    staging.mkdir()
    note_staging(folder, staging)
    assert sweep(None, state) == []
    (folder / "owner").write_text(str(DEAD))
    assert sweep(None, state) == ["half-made release .rel.run-1.partial", "run folder run-1"]
    assert not staging.exists()
    assert not folder.exists()


def test_the_sweep_takes_no_folder_that_is_not_a_staging_folder(home: Path, tmp_path: Path) -> None:
    state = Home(home)
    folder = claim_run_folder(state, "run-1", wall_seconds=60)
    precious = tmp_path / "precious"
    precious.mkdir()
    note_staging(folder, precious)
    (folder / "owner").write_text(str(DEAD))
    sweep(None, state)
    assert precious.exists()


def test_a_run_folder_that_is_just_being_claimed_is_left_alone(home: Path) -> None:
    state = Home(home)
    claim = staged_path(state.runs)
    claim.mkdir()
    assert sweep(None, state) == []
    assert claim.exists()
    os.utime(claim, (time.time() - 61, time.time() - 61))
    sweep(None, state)
    assert not claim.exists(), "its process died"


def test_a_claim_that_cannot_be_made_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes, *, mode: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner_module, "create", full)
    with pytest.raises(OSError, match="No space"):
        claim_run_folder(Home(home), "run-1", wall_seconds=60)
    assert list(Home(home).runs.iterdir()) == []


@pytest.mark.parametrize("owner", [None, "", "no owner of ours", str(DEAD)])
def test_what_is_not_ours_is_never_swept(home: Path, owner: str | None) -> None:
    """A release that somebody put there, whatever lies beside it."""
    state = Home(home)
    theirs = state.runs / "release"
    theirs.mkdir()
    (theirs / "manifest.json").write_text("{}")
    if owner is not None:
        (theirs / "owner").write_text(owner)
    (state.runs / "notes").mkdir()
    (state.runs / "notes/important").write_text("kept")
    for folder in state.runs.iterdir():
        os.utime(folder, (0, 0))
    assert sweep(None, state) == []
    assert (theirs / "manifest.json").exists()
    assert (state.runs / "notes/important").exists()


def test_whose_a_folder_is_stays_written_down_until_it_is_empty(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = Home(home)
    folder = claim_run_folder(state, "run-1", wall_seconds=60)
    (folder / "in").mkdir()
    (folder / "in/input").write_text("x")
    (folder / "staging").write_text("x")
    seen = []

    def killed(path: str | Path, ignore_errors: bool = False) -> None:
        if Path(path) == folder:
            seen.append(sorted(p.name for p in folder.iterdir()))
            return
        rmtree(path, ignore_errors=ignore_errors)

    rmtree = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", killed)
    discard_run_folder(folder)
    assert seen[0] == ["owner"]
    monkeypatch.undo()
    (folder / "owner").unlink()
    sweep(None, state)
    assert not folder.exists(), "an empty one goes as well"
