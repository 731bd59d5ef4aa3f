"""Exit 0 if and only if a release verifies, whichever system call fails, or the process is killed at it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.faults import build

ROOT = Path(__file__).parents[4]


def run_all(folder: Path, *, count: int, first: int) -> None:
    environment = os.environ | {"LD_PRELOAD": str(build(folder)), "PYTHONPATH": f"{ROOT}:{ROOT / 'images'}"}
    command = [sys.executable, "-m", "tests.fakes.faulty_runs", str(folder / "runs"), str(count), str(first)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_failing_call_never_parts_the_exit_code_from_the_release(tmp_path: Path) -> None:
    run_all(tmp_path, count=40, first=0)


@pytest.mark.faults
def test_a_thousand_failing_calls_never_part_them(tmp_path: Path) -> None:
    run_all(tmp_path, count=1000, first=1000)
