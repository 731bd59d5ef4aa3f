"""Runs on hosts and for callers that are odd in one way: each ends with the exit code that the README has for it."""

import subprocess

import pytest

from tests.integration.conftest import Host

JOB = ({"name": "greeting.txt"},)


@pytest.mark.parametrize("mask", [0o007, 0o077, 0o277, 0o777], ids=oct)
def test_a_run_releases_whatever_the_umask_is(host: Host, mask: int) -> None:
    target = host.folder / "release"
    command = host.command("run", str(host.script_job("hello", *JOB)), "--out", str(target), "--json")
    done = subprocess.run(command, capture_output=True, text=True, umask=mask, check=False)
    assert done.returncode == 0, done.stderr
    assert host.call("verify", str(target)).code == 0
