"""Hostile and unlucky scripts on the real engine: each is contained, named for what it did, and leaves nothing."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import LIMITS, Host, containers

TEN = [{"name": f"{i}.txt", "required": False} for i in range(10)]


@pytest.mark.parametrize(
    ("script", "code", "status", "words"),
    [
        ("write_root", 10, "job_failed", "Read-only file system"),
        ("connect", 10, "job_failed", "Connection refused"),
        ("connect_out", 10, "job_failed", "Network is unreachable"),
        ("resolve", 10, "job_failed", "gaierror"),
        ("fork", 13, "limit_exceeded", "pids"),
        ("allocate", 12, "out_of_memory", "killed for memory"),
        ("shout", 13, "limit_exceeded", "log_bytes"),
        ("flood_bytes", 13, "limit_exceeded", "output_bytes"),
        ("flood_outputs", 13, "limit_exceeded", "output_files"),
        ("fill_tmp", 10, "job_failed", "No space left"),
        ("fail", 10, "job_failed", "the table has no rows"),
        ("lie", 10, "job_failed", "digest"),
        ("undeclared", 10, "job_failed", "not declared"),
    ],
)
def test_a_script_is_contained(host: Host, home: Path, script: str, code: int, status: str, words: str) -> None:
    limits: dict[str, Any] = {"output_files": 5}
    done, target, peak = host.run_watched(host.script_job(script, *TEN, limits=limits), home)
    assert (done.code, done.json["status"]) == (code, status)
    assert words in done.json["outcome"]["reason"]
    assert not target.exists()
    assert host.record(done)["status"] == status
    assert containers() == ""
    caps = LIMITS["log_bytes"] + LIMITS["output_bytes"]
    assert peak <= caps + (1 << 20)  # and the run's own few small files


def test_outputs_do_land_on_disk_while_they_arrive(host: Host, home: Path) -> None:
    """So that the cap of the test above is one that can be exceeded: five outputs of 1 MiB before the sixth."""
    _, _, peak = host.run_watched(host.script_job("flood_outputs", *TEN, limits={"output_files": 5}), home)
    assert peak >= 2 << 20


def test_the_wall_limit_really_kills(host: Host) -> None:
    done, target = host.run(host.script_job("sleep", limits={"wall_seconds": 2}))
    assert (done.code, done.json["status"], done.json["outcome"]["limit"]) == (11, "timed_out", "wall_seconds")
    assert 1.5 < done.json["timings"]["run"] < 120  # an hour is what the script would sleep
    assert done.json["timings"]["remove"] < 60
    assert not target.exists()
    assert containers() == ""


def test_what_a_script_prints_is_kept_up_to_the_limit(host: Host) -> None:
    done, _ = host.run(host.script_job("shout"))
    log = Path(done.json["record"]).with_name("stdout.log")
    assert log.stat().st_size == LIMITS["log_bytes"]


def test_a_process_that_outlives_the_job_goes_with_it(host: Host) -> None:
    done, target = host.run(host.script_job("thread", {"name": "0.txt"}))
    assert done.code == 0, done.stderr
    assert target.exists()
    assert containers() == ""


def test_an_honest_script_reads_reports_and_releases(host: Host, tmp_path: Path) -> None:
    (tmp_path / "greeting").write_text("good morning")
    digest = "5e59d3ee5dae1e2a4d5b6b3a7bd5ae9b43d1f0c0c3c2b60e0c9e7f40d6c2d4c7"
    inputs = {"greeting": {"uri": "greeting", "sha256": digest}}
    job = host.script_job("hello", {"name": "greeting.txt"}, inputs=inputs, seed=7)
    refused, _ = host.run(job)
    assert refused.code == 21
    actual = refused.json["error"]["message"].split("has sha256 ")[1][:64]
    job.write_text(job.read_text().replace(digest, actual))
    done, target = host.run(job)
    assert done.code == 0, done.stderr
    assert (target / "artifacts/greeting.txt").read_text() == "good morning"
    assert done.json["metrics"] == {"length": 12.0}
    assert Path(done.json["record"]).with_name("stdout.log").read_text() == "seed 7\n"
    assert host.call("verify", str(target)).code == 0


def test_usage_is_what_the_kernel_counted(host: Host) -> None:
    done, _ = host.run(host.script_job("allocate"))
    usage = done.json["usage"]
    assert usage["oom_kills"] >= 1
    assert usage["memory_peak_bytes"] >= LIMITS["memory_bytes"] * 0.95
    assert usage["cpu_seconds"] > 0


def test_events_are_numbered_without_gaps_and_end_with_the_result(host: Host) -> None:
    import json

    job = host.script_job("hello", {"name": "greeting.txt"})
    done = host.call("run", str(job), "--out", str(host.folder / "r"), "--events", "-")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["seq"] for e in events] == list(range(len(events)))
    assert (events[-1]["event"], events[-1]["result"]["exit_code"]) == ("result", 0)
    assert {"accepted", "started", "progress", "log", "exited", "collected", "decided", "released"} <= {
        e["event"] for e in events
    }
