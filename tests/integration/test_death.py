"""The executor dies or is told to stop half-way: nothing is released, and the next one cleans up."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from executor.sandbox.docker import DockerEngine
from executor.state.home import open_home
from executor.state.owner import home_label
from tests.fakes.clock import until
from tests.integration.conftest import Host, containers


@contextmanager
def running(host: Host, job: Path, target: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start a run and wait until its job says that it sleeps."""
    command = host.command("run", str(job), "--out", str(target), "--json")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    try:
        deadline = time.monotonic() + 300
        assert process.stderr is not None
        while "sleeping" not in (line := process.stderr.readline()):
            assert line, "the run ended early"
            assert time.monotonic() < deadline
        yield process
    finally:
        process.kill()
        process.wait()


def reaper_of(process: "subprocess.Popen[str]") -> int:
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def nothing_left(host: Host, home: Path) -> bool:
    return containers() == "" and not list((home / "run").iterdir()) and not list(host.folder.glob(".*.partial"))


def test_what_a_killed_executor_leaves_is_gone_soon_after(host: Host, home: Path) -> None:
    target = host.folder / "release"
    with running(host, host.script_job("sleep"), target) as process:
        assert not nothing_left(host, home)
        process.send_signal(signal.SIGKILL)
        process.wait()
    until(lambda: nothing_left(host, home))
    assert not target.exists()
    until(lambda: list((home / "log").glob("*/record.json")))  # which comes last
    (record,) = (home / "log").glob("*/record.json")
    assert json.loads(record.read_text())["status"] == "lost"


@pytest.mark.parametrize("cleaner", ["run", "doctor"])
def test_where_the_reaper_was_killed_as_well_the_next_one_cleans_up(host: Host, home: Path, cleaner: str) -> None:
    target = host.folder / "release"
    with running(host, host.script_job("sleep"), target) as process:
        os.kill(reaper_of(process), signal.SIGKILL)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not target.exists()
    assert list((home / "run").iterdir()) != []
    if cleaner == "doctor":
        report = host.call("doctor", "--json").json
        assert any(item.startswith("run folder") for item in report["removed"])
    else:
        assert host.run(host.script_job("hello", {"name": "greeting.txt"}))[0].code == 0
    assert containers() == ""
    assert list((home / "run").iterdir()) == []
    assert list(host.folder.glob(".*.partial")) == []


def test_the_container_of_a_killed_executor_ends_by_itself(host: Host) -> None:
    with running(host, host.script_job("sleep"), host.folder / "release") as process:
        os.kill(reaper_of(process), signal.SIGKILL)
        process.send_signal(signal.SIGKILL)
        process.wait()
    engine = DockerEngine()
    (orphan,) = engine.owned(home_label(open_home()))
    assert engine.wait(orphan.container_id, seconds=120)
    assert engine.state(orphan.container_id).exit_code == 125
    host.call("doctor")


def test_one_signal_cancels_and_reports(host: Host) -> None:
    target = host.folder / "release"
    with running(host, host.script_job("sleep"), target) as process:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=300)
    result = json.loads(out)
    assert (process.returncode, result["status"]) == (14, "cancelled")
    assert not target.exists()
    until(lambda: containers() == "")  # on a slow machine the reaper removes it


def test_a_living_run_is_not_swept_by_another(host: Host) -> None:
    with running(host, host.script_job("sleep", limits={"wall_seconds": 600}), host.folder / "release"):
        assert host.call("doctor", "--json").json["removed"] == []
        assert containers() != ""
    host.call("doctor")


def test_a_second_run_with_the_same_key_gives_the_first_result(host: Host) -> None:
    job, target = host.script_job("hello", {"name": "greeting.txt"}), host.folder / "release"
    arguments = ("run", str(job), "--out", str(target), "--idempotency-key", "k", "--json")
    first, second = host.call(*arguments), host.call(*arguments)
    assert (first.code, second.code) == (0, 0), first.stderr
    assert second.json == first.json | {"replayed": True}
    other = host.script_job("hello", {"name": "greeting.txt"}, seed=8)
    refused = host.call("run", str(other), "--out", str(target), "--idempotency-key", "k", "--json")
    assert (refused.code, refused.json["status"]) == (21, "invalid_request")


def test_two_runs_with_the_same_key_at_once_give_one_release(host: Host) -> None:
    job, target = host.script_job("hello", {"name": "greeting.txt"}), host.folder / "release"
    command = host.command("run", str(job), "--out", str(target), "--idempotency-key", "k", "--json")
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    results = [json.loads(process.communicate(timeout=600)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len({result["run_id"] for result in results}) == 1
    assert sorted("replayed" in result for result in results) == [False, True]
