"""`doctor --deep`: the battery against this host, for everybody who runs one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from executor.doctor import battery as run_module
from executor.doctor.attempts import ATTEMPTS, Attempt
from executor.doctor.checks import examine
from executor.exits import Exit

pytestmark = pytest.mark.engine
HOLDS = Attempt(name="fail", family="x", code="raise ValueError('held back')", reasons=("held back",))
ESCAPES = Attempt(name="get through", family="x", code="result = 'free'", reasons=("held back",))
OTHERWISE = Attempt(name="stumble", family="x", code="raise ValueError('clumsy')", reasons=("held back",))


def test_every_attempt_is_reported_as_held_on_this_host() -> None:
    command = [sys.executable, "-I", "-m", "executor", "doctor", "--deep", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    report = json.loads(done.stdout)
    assert (done.returncode, report["status"]) == (0, "healthy")
    checks = {c["name"]: c["detail"] for c in report["checks"] if c["name"].startswith("escape: ")}
    assert checks == {f"escape: {a.name}": "held" for a in ATTEMPTS}
    assert len(done.stderr.splitlines()) >= len(ATTEMPTS)


def test_what_gets_through_or_fails_for_another_reason_is_unhealthy(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "ATTEMPTS", (HOLDS, ESCAPES, OTHERWISE))
    report = examine(deep=True)
    found = {c.name: (c.ok, c.detail) for c in report.checks if c.name.startswith("escape")}
    assert found["escape: fail"] == (True, "held")
    assert found["escape: get through"] == (False, "it got through: free")
    assert found["escape: stumble"][1].startswith("it failed for another reason: ValueError: clumsy")
    assert report.exit is Exit.HOST_PERMANENT
