"""A job that waits is ended at its idle limit and one that computes a little is not, whatever this process can see."""

import subprocess

import pytest

from tests.integration.conftest import Finished, Host

# Where process numbers are its own, as in a container that has the engine's socket, no cgroup can be told by them.
NAMESPACES = {"here": (), "in a pid namespace of its own": ("unshare", "--pid", "--fork", "--mount-proc")}


def run(host: Host, namespace: str, script: str) -> Finished:
    job = host.script_job(script, {"name": "0.txt"}, limits={"idle_seconds": 3})
    command = host.command("run", str(job), "--out", str(host.folder / "release"), "--json")
    done = subprocess.run([*NAMESPACES[namespace], *command], capture_output=True, text=True, check=False)
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_job_that_sleeps_is_ended_at_its_limit(host: Host, namespace: str) -> None:
    done = run(host, namespace, "sleep")
    assert (done.code, done.json["outcome"]["limit"]) == (11, "idle_seconds"), done.stderr
    assert done.json["limits"]["idle_seconds"]["used"] >= 3


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_job_that_computes_a_little_is_not_idle(host: Host, namespace: str) -> None:
    done = run(host, namespace, "compute_a_little")
    assert done.code == 0, (done.json.get("outcome"), done.stderr)
    assert done.json["limits"]["idle_seconds"]["used"] < 3
    assert done.json["limits"]["cpu_seconds"]["used"] > 0.2
