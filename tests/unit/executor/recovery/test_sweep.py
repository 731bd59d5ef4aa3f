"""After an executor that died: its run is recorded as what it came to, and a release stands or is not there."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from executor.errors import Cancelled, HostError, RequestError
from executor.recovery.sweep import recover
from executor.release import publish as release_module
from executor.run import journey as journey_module
from executor.state import owner as owner_module
from executor.state.runs import Runs
from tests.fakes.engine import Worker
from tests.unit.executor.run.test_journey import World, inventory, job, replay, world

__all__ = ["world"]


class Died(BaseException):
    """What stands for SIGKILL here: nothing after it runs that would not run after one."""


def wait_for_kill(worker: Worker) -> None:
    worker.killed.wait(20)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make this process another one, so that what it owned is a dead one's."""
    true = owner_module._start_time
    monkeypatch.setattr(owner_module, "_own_start_time", lambda pid: owner_module._start_time(pid))

    def forgetting() -> None:
        monkeypatch.setattr(owner_module, "_start_time", lambda pid: (true(pid) or 0) + 1)

    return forgetting


def die(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Have the run die at a place in the journey, leaving behind what it had done by then."""

    def dying(*_: Any, **__: Any) -> None:
        raise Died

    monkeypatch.setattr(f"executor.{where}", dying)
    for undone in ("run.containers.discard_run_folder", "run.journey.withdraw", "release.publish.remove_folder"):
        monkeypatch.setattr(f"executor.{undone}", lambda *_, **__: None)
    monkeypatch.setattr(Runs, "end", lambda *_, **__: None)


def test_a_run_that_died_before_its_release_had_a_name_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    with monkeypatch.context() as patch:
        die(patch, "release.publish._rename")
        with pytest.raises(Died):
            world.run(job, inventory(), replay(), key="k")
    assert list(world.target.parent.glob(".*.partial")) != []
    forget()
    done = recover(world.engine, world.home, now=now)
    assert "run run-1: lost" in done
    assert world.nothing_left()
    record = world.record()
    assert (record["status"], record["exit_code"], record["release"]) == ("lost", 30, None)
    assert recover(world.engine, world.home, now=now) == []
    assert world.run(job, inventory(), replay(), key="k", run_id="run-2")["status"] == "released"


def test_a_run_that_died_once_its_release_had_a_name_has_released(
    world: World, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    with monkeypatch.context() as patch:
        die(patch, "run.journey.write_record")
        with pytest.raises(Died):
            world.run(job, inventory(), replay(), key="k")
    assert world.target.exists()
    assert not (world.home.log / "run-1/record.json").exists()
    forget()
    again = world.run(key="k", run_id="run-2")  # starts nothing, settles the first one and returns its result
    assert (again["run_id"], again["status"], again["replayed"]) == ("run-1", "released", True)
    assert again["release"] == str(world.target)
    record = world.record()
    assert (record["status"], record["release"]) == ("released", str(world.target))
    assert record["manifest_sha256"] == again["manifest_sha256"]


def test_a_release_that_was_changed_meanwhile_does_not_stand(
    world: World, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    with monkeypatch.context() as patch:
        die(patch, "run.journey.write_record")
        with pytest.raises(Died):
            world.run(job, inventory(), replay(), key="k")
    manifest = world.target / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    forget()
    assert "run run-1: lost" in recover(world.engine, world.home, now=now)
    with pytest.raises(RequestError, match="exists already"):
        world.run(key="k", run_id="run-2")


def test_a_record_that_was_cut_off_before_its_signature_is_written_anew(
    world: World, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    with monkeypatch.context() as patch:
        die(patch, "run.journey.write_record")
        with pytest.raises(Died):
            world.run(job, inventory(), replay())
    (world.home.log / "run-1/record.json").write_text("{}")
    forget()
    recover(world.engine, world.home, now=now)
    assert world.record()["status"] == "released"
    assert (world.home.log / "run-1/record.json.sigstore.json").exists()


def test_a_second_run_with_the_same_key_returns_the_first_result_and_starts_nothing(world: World) -> None:
    first = world.run(job, inventory(), replay(), key="k")
    again = world.run(key="k", run_id="run-2")
    assert again == first | {"replayed": True}
    assert world.engine.requests == []
    assert json.loads(json.dumps(again)) == again


def test_a_denial_is_a_result_too(world: World) -> None:
    from tests.unit.executor.run.test_journey import EVIL_OPERATOR

    first = world.run(job, inventory(EVIL_OPERATOR), key="k")
    assert first["status"] == "denied"
    assert world.run(key="k", run_id="run-2") == first | {"replayed": True}


def test_a_key_of_a_cancelled_run_is_free_again(world: World) -> None:
    world.cancel = True
    assert world.run(wait_for_kill, key="k")["status"] == "cancelled"
    world.cancel = False
    assert world.run(job, inventory(), replay(), key="k", run_id="run-2")["status"] == "released"


def test_another_release_directory_is_another_request(world: World) -> None:
    world.run(job, inventory(), replay(), key="k")
    world.target = world.target.with_name("elsewhere")
    with pytest.raises(RequestError, match="another request"):
        world.run(key="k", run_id="run-2")


def test_waiting_for_a_run_with_the_same_key_can_be_cancelled(world: World) -> None:
    world.run(job, inventory(), replay(), key="k")
    with Runs(world.home.runs_database)._transaction() as db:
        db.execute("UPDATE runs SET state = 'running', result = NULL")
    world.cancel = True
    with pytest.raises(Cancelled, match="has the same key"):
        world.run(key="k", run_id="run-2")
    assert world.events[-1]["event"] != "waiting"  # cancelled before it had begun to wait


def test_what_a_living_executor_runs_is_left_alone(world: World) -> None:
    runs = Runs(world.home.runs_database)
    me = owner_module.this_process(deadline=2e9)
    runs.begin("r", key=None, request="x", target=world.target, owner=me, lost_record={})
    dead = replace(me, started=me.started + 1)
    record = {"run_id": "s", "status": "lost", "plan": {"kind": "train"}}
    runs.begin("s", key=None, request="x", target=world.target, owner=dead, lost_record=record)
    assert recover(None, world.home, now=now) == ["run s: lost"]
    assert [run.run_id for run in runs.unfinished()] == ["r"]


def test_a_run_that_died_between_its_record_and_its_end_is_what_its_record_says(
    world: World, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    from tests.unit.executor.run.test_journey import EVIL_OPERATOR

    with monkeypatch.context() as patch:
        patch.setattr(Runs, "end", lambda *_, **__: None)
        assert world.run(job, inventory(EVIL_OPERATOR), key="k")["status"] == "denied"
    forget()
    assert recover(world.engine, world.home, now=now) == ["run run-1: denied"]
    again = world.run(key="k", run_id="run-2")
    assert (again["run_id"], again["status"], again["exit_code"], again["replayed"]) == ("run-1", "denied", 20, True)


def test_a_record_that_says_otherwise_is_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    """As after a power cut in which the record reached the disk and the release's name did not."""
    with monkeypatch.context() as patch:
        patch.setattr(Runs, "end", lambda *_, **__: None)
        assert world.run(job, inventory(), replay(), key="k")["status"] == "released"
    shutil.rmtree(world.target)
    forget()
    assert recover(world.engine, world.home, now=now) == ["run run-1: lost"]
    assert world.record()["status"] == "lost"


def test_where_it_cannot_be_seen_whether_a_release_stands_the_run_waits(
    world: World, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    with monkeypatch.context() as patch:
        die(patch, "run.journey.write_record")
        with pytest.raises(Died):
            world.run(job, inventory(), replay(), key="k")
    away = world.target.parent.with_name("away")
    with Runs(world.home.runs_database)._transaction() as db:
        (device,) = db.execute("SELECT target_device FROM runs").fetchone()
        db.execute("UPDATE runs SET target_device = target_device + 1")  # as where nothing is mounted any more
    forget()
    (said,) = [s for s in recover(world.engine, world.home, now=now) if s.startswith("not yet")]
    assert "not mounted" in said
    with pytest.raises(HostError, match="not mounted"):
        world.run(key="k", run_id="run-2")
    with Runs(world.home.runs_database)._transaction() as db:
        db.execute("UPDATE runs SET target_device = ?", (device,))
    assert not away.exists()
    assert world.run(key="k", run_id="run-3")["run_id"] == "run-1"


def test_a_name_that_was_given_is_taken_back_where_the_run_is_interrupted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = release_module.release

    def interrupted(*arguments: Any, **options: Any) -> Any:
        original(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(journey_module, "release", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.run(job, inventory(), replay(), key="k")
    assert world.nothing_left()
    monkeypatch.setattr(journey_module, "release", original)
    assert world.run(job, inventory(), replay(), key="k", run_id="run-2")["status"] == "released"


def test_what_cannot_be_put_down_at_the_end_changes_nothing_that_was_done(
    world: World, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise HostError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Runs, "end", full)
        assert world.run(job, inventory(), replay(), key="k")["status"] == "released"
    assert "no space left" in world.events[-1]["message"]
    forget()
    assert world.run(key="k", run_id="run-2")["run_id"] == "run-1"


def test_a_directory_that_appears_under_the_releases_name_is_not_taken_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = release_module._rename

    def late(staging: Any, target: Any, named: Any) -> None:
        target.mkdir()
        (target / "theirs").write_text("x")
        original(staging, target, named)

    monkeypatch.setattr(release_module, "_rename", late)
    with pytest.raises(RequestError, match="appeared while"):
        world.run(job, inventory(), replay())
    assert (world.target / "theirs").read_text() == "x"
    assert (world.record()["status"], world.record()["release"]) == ("invalid_request", None)
