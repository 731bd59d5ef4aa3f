"""What one job uses up, another still has: each container has a user of its own."""

import contextlib
import fcntl
import json
import os
import signal
import struct
import subprocess
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from executor.sandbox.users import DEFAULT
from executor.state.home import Home
from executor.state.owner import home_label
from tests.fakes.clock import until
from tests.integration.conftest import Host, raw_engine

LIMITS = {"memory_bytes": 2 << 30, "pids": 100}


def users(home: Path) -> list[int]:
    """Return the users of the containers that there are, as the engine has them."""
    client, found = raw_engine(), []
    for container in client.containers(all=True, filters={"label": home_label(Home(home))}):
        with contextlib.suppress(docker.errors.NotFound):  # removed meanwhile
            found.append(int(client.inspect_container(container["Id"])["Config"]["User"].partition(":")[0]))
    return found


def test_a_job_that_uses_up_what_is_counted_by_user_harms_no_other(host: Host, home: Path) -> None:
    greedy = host.command("run", str(host.script_job("use_up", limits=LIMITS)), "--json")
    with subprocess.Popen(greedy, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "used up" not in (line := process.stderr.readline()):
            said += line
            assert line, said
        done, target = host.run(host.script_job("neighbour", limits=LIMITS))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=600)
    assert process.returncode == 14
    assert done.code == 0, done.stdout
    assert (target / "artifacts/0.txt").read_text() == "worked"


def test_containers_that_run_at_once_have_users_of_their_own(host: Host, home: Path) -> None:
    commands = [host.command("run", str(host.script_job("sleep")), "--json") for _ in range(4)]
    runs = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for c in commands]
    try:
        until(lambda: len(users(home)) == 4)
        found = users(home)
        assert len(set(found)) == 4
        assert all(DEFAULT.first <= user <= DEFAULT.last for user in found)
    finally:
        for run in runs:
            run.send_signal(signal.SIGTERM)
        assert {run.wait(timeout=600) for run in runs} == {14}
    assert users(home) == []


def test_a_range_of_the_sites_own_is_what_containers_get(
    host: Host, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXECUTOR_USERS", "30000-30063")
    command = host.command("run", str(host.script_job("sleep")), "--json")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        until(lambda: len(users(home)) == 1)
        (user,) = users(home)
        run.send_signal(signal.SIGTERM)
    assert 30_000 <= user <= 30_063


def is_leased(home: Path) -> bool:
    """Whether anybody has a lock on any byte of the file of users (fcntl(2), F_OFD_GETLK)."""
    request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with Home(home).users.open("r+b") as file:
        found: int = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_OFD_GETLK, request))[0]
    return found != fcntl.F_UNLCK


def tcp_bytes() -> int:
    """Return what the buffers of all TCP connections of the machine hold (proc(5): net/sockstat, pages)."""
    row = next(r for r in Path("/proc/net/sockstat").read_text().splitlines() if r.startswith("TCP:")).split()
    return int(row[row.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE")


def run_tcp(host: Host, connections: int, *, processes: int = 1) -> tuple[int, dict[str, Any], int]:
    """Return exit code and result of a job with full TCP connections, and what the machine held for them."""
    job = host.script_job("tcp", params={"connections": connections, "processes": processes}, limits=LIMITS)
    with subprocess.Popen(
        host.command("run", str(job), "--out", str(host.folder / "tcp"), "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        before = tcp_bytes()
        for line in process.stderr:
            if "held" in line:
                break
        held = tcp_bytes() - before
        result: dict[str, Any] = json.loads(process.stdout.read())
        process.stderr.read()
    return process.returncode, result, held


@pytest.mark.skipif(
    not os.access("/sys/fs/cgroup/memory/memory.kmem.tcp.limit_in_bytes", os.W_OK),
    reason="cgroup v2, which charges the container, or not root",
)
def test_what_a_jobs_connections_hold_is_bounded(host: Host) -> None:
    code, result, held = run_tcp(host, 200)
    assert code == 0
    assert held < 16 << 20
    assert 400 <= result["limits"]["tcp_sockets"]["used"] <= 2048


def test_a_job_with_more_connections_than_that_is_ended(host: Host) -> None:
    code, result, _ = run_tcp(host, 400, processes=3)
    assert code == 13
    assert result["outcome"]["limit"] == "tcp_sockets"


@pytest.mark.faults
def test_sixty_four_runs_at_once_have_users_of_their_own_and_leave_none(host: Host, home: Path) -> None:
    """Twenty of their executors are killed on the way."""
    job = host.script_job("sleep", limits={"memory_bytes": 128 << 20, "tmp_bytes": 8 << 20})
    command = host.command("run", str(job), "--json", "--out")
    runs = [
        subprocess.Popen([*command, str(host.folder / f"r{n}")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for n in range(64)
    ]
    try:
        until(lambda: len(users(home)) == 64)
        found = users(home)
        assert len(set(found)) == 64
        for run in runs[:20]:
            run.kill()
        until(lambda: len(users(home)) == 44)
        assert set(users(home)) <= set(found)
        assert is_leased(home)
    finally:
        for run in runs:
            run.send_signal(signal.SIGTERM)
        codes = [run.wait(timeout=600) for run in runs]
    assert codes == [-signal.SIGKILL] * 20 + [14] * 44
    until(lambda: users(home) == [])
    assert not is_leased(home)
