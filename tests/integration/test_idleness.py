"""A job that waits is ended at its idle limit and one that computes a little is not, whatever this process can see."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from executor.sandbox.cgroup import find_usage_files, read_cpu_seconds
from executor.sandbox.docker import DockerEngine
from executor.state.home import open_home
from executor.state.owner import home_label
from tests.integration.conftest import Finished, Host

# Where process numbers are its own, as in a container that has the engine's socket, no cgroup can be told by them.
_UNSHARED = ("unshare", "--pid", "--fork", "--mount-proc")
NAMESPACES = {
    "here": (),
    "in a pid namespace of its own": _UNSHARED,
    "beside a busy stranger of the same number": (*_UNSHARED, sys.executable, "-m", "tests.fakes.stranger"),
}


def run(host: Host, namespace: str, script: str) -> Finished:
    job = host.script_job(script, {"name": "0.txt"}, limits={"idle_seconds": 5})
    command = host.command("run", str(job), "--out", str(host.folder / "release"), "--json")
    if "stranger" in namespace:
        command = command[command.index("run") :]
    done = subprocess.run(
        [*NAMESPACES[namespace], *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    return Finished(done.returncode, done.stdout, done.stderr)


IN_EACH = pytest.mark.parametrize(
    "namespace",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(bool(prefix) and os.geteuid() != 0, reason="only root can make a pid namespace"),
        )
        for name, prefix in NAMESPACES.items()
    ],
)


@IN_EACH
def test_a_job_that_sleeps_is_ended_at_its_limit(host: Host, namespace: str) -> None:
    done = run(host, namespace, "sleep")
    assert (done.code, done.json["outcome"]["limit"]) == (11, "idle_seconds"), done.stderr
    assert done.json["limits"]["idle_seconds"]["used"] >= 5


@IN_EACH
def test_a_job_that_computes_a_little_is_not_idle(host: Host, namespace: str) -> None:
    done = run(host, namespace, "compute_a_little")
    assert done.code == 0, (done.json.get("outcome"), done.stderr)
    assert done.json["limits"]["idle_seconds"]["used"] < 5
    assert done.json["limits"]["cpu_seconds"]["used"] > 0.2


@contextmanager
def sleeping(host: Host) -> Iterator[None]:
    """Run a job until it sleeps, and end it afterwards."""
    command = host.command("run", str(host.script_job("sleep")), "--out", str(host.folder / "release"))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            while "sleeping" not in process.stderr.readline():
                assert process.poll() is None, "the run ended early"
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield
        finally:
            process.terminate()


def test_nothing_in_a_container_wakes_while_its_job_sleeps(host: Host) -> None:
    with sleeping(host):
        engine = DockerEngine()
        (container,) = engine.owned(home_label(open_home()))
        pid = engine.state(container.container_id).pid
        files = find_usage_files(pid, container=container.container_id)
        assert files is not None

        def counted() -> tuple[str, float | None]:
            return runs(pid), read_cpu_seconds(files)

        for _ in range(10):  # what the job did before it slept may be seen for some seconds
            before = counted()
            time.sleep(5)
            if counted() == before:
                break
        assert counted() == before, "something woke in every five seconds"
        assert engine.usage(container.container_id).cpu_seconds == before[1], "the engine counts as the kernel does"


def runs(pid: int) -> str:
    """Return how often process 1 has run (schedstat, third number)."""
    return Path(f"/proc/{pid}/schedstat").read_text().split()[2]


def test_what_a_job_writes_and_removes_while_it_computes_is_seen(host: Host) -> None:
    done, _ = host.run(host.script_job("write_and_remove", {"name": "0.txt"}))
    assert done.code == 0, (done.json.get("outcome"), done.stderr)
    assert done.json["limits"]["tmp_bytes"]["used"] >= 20 << 20
