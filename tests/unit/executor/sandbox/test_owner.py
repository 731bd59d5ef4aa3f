"""Owners and the sweep: the dead lose what they left, the living nothing."""

import subprocess
import sys
import time
from pathlib import Path, PurePosixPath

import pytest

from executor.home import Home
from executor.sandbox.config import ContainerRequest
from executor.sandbox.owner import (
    LABEL_OWNER,
    Owner,
    claim_run_folder,
    labels_for,
    note_staging,
    parse_owner,
    sweep,
    this_process,
)
from tests.fakes.engine import FakeEngine
from tests.unit.executor.sandbox.test_config import CONFIG

DEAD = Owner("another-boot", 1, 1)


def test_an_owner_is_written_and_parsed_the_same() -> None:
    assert parse_owner(str(this_process())) == this_process()


@pytest.mark.parametrize("text", ["", "a", "a:b:c", "a:1", ":1:2", "a:1:-2"])
def test_a_label_of_somebody_else_is_no_owner(text: str) -> None:
    assert parse_owner(text) is None


def test_this_process_lives_and_a_reused_process_id_does_not() -> None:
    me = this_process()
    assert me.alive
    assert not Owner(me.boot_id, me.pid, me.started + 1).alive
    assert not Owner("another-boot", me.pid, me.started).alive


def test_a_process_that_ended_is_dead_before_it_is_reaped() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
    owner = Owner(this_process().boot_id, child.pid, started)
    assert owner.alive
    child.kill()
    for _ in range(100):
        if not owner.alive:
            break
        time.sleep(0.02)
    assert not owner.alive
    child.wait()


def container(engine: FakeEngine, owner: Owner) -> str:
    labels = tuple((k, str(owner) if k == LABEL_OWNER else v) for k, v in labels_for("r", wall_seconds=1))
    return engine.create(ContainerRequest(name="c", config=CONFIG, mounts=(), labels=labels))


def test_the_sweep_removes_containers_of_the_dead_only(home: Path) -> None:
    engine = FakeEngine(lambda _: None)
    dead, living = container(engine, DEAD), container(engine, this_process())
    foreign = engine.create(ContainerRequest(name="f", config=CONFIG, mounts=(), labels=((LABEL_OWNER, "hand-made"),)))
    assert sweep(engine, Home(home)) == ["container c"]
    assert engine.removed == [dead]
    assert {living, foreign} <= set(engine.containers)


def test_the_sweep_removes_the_run_folder_and_the_staged_release_of_the_dead(home: Path, tmp_path: Path) -> None:
    state = Home(home)
    folder = claim_run_folder(state, "run-1")
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
    folder = claim_run_folder(state, "run-1")
    precious = tmp_path / "precious"
    precious.mkdir()
    note_staging(folder, precious)
    (folder / "owner").write_text(str(DEAD))
    sweep(None, state)
    assert precious.exists()


def test_a_run_folder_that_is_just_being_claimed_is_left_alone(home: Path) -> None:
    state = Home(home)
    (state.runs / "fresh").mkdir()
    assert sweep(None, state) == []
    assert PurePosixPath("fresh").name in {p.name for p in state.runs.iterdir()}
