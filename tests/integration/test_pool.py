"""The warm pool on the real engine: same seal as cold, one job each, and nothing left of it."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clock import until
from tests.integration.conftest import Host, containers, raw_engine

JOB = ({"name": "greeting.txt"},)


@contextmanager
def pool(host: Host, *arguments: str) -> Iterator[dict[str, Any]]:
    started = host.call("pool", "start", "--json", "--size", "1", *arguments)
    assert started.code == 0, started.stderr
    try:
        yield started.json
    finally:
        assert host.call("pool", "stop").code == 0


def status(host: Host) -> dict[str, Any]:
    return host.call("pool", "status", "--json").json


def full(host: Host) -> bool:
    return all(kind["ready"] == kind["size"] for kind in status(host)["classes"])


def test_a_warm_run_releases_under_the_same_seal_as_a_cold_one(host: Host, home: Path) -> None:
    job = host.script_job("hello", *JOB, seed=3)
    with pool(host, str(job)) as started:
        assert [kind["kind"] for kind in started["classes"]] == ["script", "inventory", "replay"]
        warm, target = host.run(job)
        assert warm.code == 0, warm.stderr
        assert warm.json["sandbox"]["warm"] is True
        cold = host.call("run", str(job), "--out", str(host.folder / "cold"), "--cold", "--json")
        assert cold.json["sandbox"]["warm"] is False
        for name in ("host_config_sha256",):
            assert warm.json["sandbox"][name] == cold.json["sandbox"][name]
        digests = [[a["sha256"] for a in done.json["artifacts"]] for done in (warm, cold)]
        assert digests[0] == digests[1]
        assert host.call("verify", str(target)).code == 0
        until(lambda: full(host))
        counts = status(host)["counts"]
        assert (counts["hits"], counts["misses"], counts["discarded"]) == (2, 0, 0)
        assert host.call("pool", "start").code == 21
    assert containers() == ""
    assert list((home / "run").iterdir()) == []
    assert status(host)["status"] == "stopped"


def mine() -> list[str]:
    """Return the names of this test's containers that wait."""
    names = set(containers().split())
    found = raw_engine().containers(filters={"label": "sealed-executor.home"})
    return [name for container in found if (name := container["Names"][0][1:]) in names]


def reasons(home: Path, names: list[str]) -> list[str | None]:
    """Return why the pool discarded each container, as its log has it; None for one that it did not discard."""
    log = dict(re.findall(r" discarded (\S+): (\w+)$", (home / "log/pool.log").read_text(), re.MULTILINE))
    return [log.get(name) for name in names]


def has_ended(engine: Any, visit: str) -> bool:
    return not engine.exec_inspect(visit)["Running"]


def test_a_container_that_somebody_ran_a_program_in_is_not_given_away(host: Host, home: Path) -> None:
    job = host.script_job("hello", *JOB)
    with pool(host, str(job)):
        engine, names = raw_engine(), mine()
        for name in names:
            visit = engine.exec_create(name, ["/usr/bin/python3.11", "-I", "-S", "-c", "pass"])
            engine.exec_start(visit["Id"])
            until(partial(has_ended, engine, visit["Id"]))  # it leaves CPU time behind, and the engine's word
        assert host.run(job)[0].code == 0
        until(lambda: full(host) and None not in reasons(home, names))  # what is given away is not discarded
        assert len(names) == 3
        # The pool looks now and then, also while a program runs.
        assert set(reasons(home, names)) <= {"cpu", "processes", "visitors"}


CHANGES: tuple[dict[str, Any], ...] = (
    {"mem_limit": "1g", "memswap_limit": "1g"},
    {"cpuset_cpus": "0", "cpu_shares": 2},
    {"mem_reservation": "64m"},
)


def test_a_container_whose_limits_somebody_changed_is_not_given_away(host: Host, home: Path) -> None:
    job = host.script_job("hello", *JOB)
    with pool(host, str(job)):
        engine, names = raw_engine(), mine()
        for name, change in zip(names, CHANGES, strict=True):
            engine.update_container(name, **change)
        assert host.run(job)[0].code == 0
        until(lambda: full(host) and None not in reasons(home, names))
        assert len(names) == 3
        assert set(reasons(home, names)) <= {"limits", "configuration"}


@pytest.mark.skipif(os.geteuid() != 0, reason="the temporary file system of another user's process is closed to others")
def test_a_container_that_somebody_gave_a_file_is_not_given_away(host: Host, home: Path) -> None:
    job = host.script_job("hello", *JOB)
    with pool(host, str(job)):
        engine, names = raw_engine(), mine()
        for name in names:
            pid = engine.inspect_container(name)["State"]["Pid"]
            (Path("/proc") / str(pid) / "root" / "tmp" / "left").write_text("by somebody")
        assert host.run(job)[0].code == 0
        until(lambda: full(host) and None not in reasons(home, names))
        assert set(reasons(home, names)) == {"files"}


def test_a_warm_container_does_not_outlive_a_job_that_goes_wrong(host: Host) -> None:
    job = host.script_job("sleep", limits={"wall_seconds": 2})
    with pool(host, str(job)):
        done, _ = host.run(job)
        assert (done.code, done.json["status"], done.json["sandbox"]["warm"]) == (11, "timed_out", True)
        until(lambda: full(host))
    assert containers() == ""


def test_what_a_killed_pool_leaves_is_gone_soon_after(host: Host, home: Path) -> None:
    job = host.script_job("hello", *JOB)
    started = host.call("pool", "start", "--json", "--size", "1", str(job))
    assert containers() != ""
    os.kill(started.json["pid"], signal.SIGKILL)
    until(lambda: containers() == "" and list((home / "run").iterdir()) == [])
    done, _ = host.run(job)
    assert (done.code, done.json["sandbox"]["warm"]) == (0, False)
    assert host.call("pool", "stop").code == 0
