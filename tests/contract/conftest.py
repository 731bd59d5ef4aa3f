"""The command as pipelines call it, and a release of this host to call it on."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from executor.state.home import Home
from signing.local import open_or_create
from tests.unit.signing.conftest import make_release

Call = subprocess.CompletedProcess[str]


def executor(*arguments: str, **environment: str) -> Call:
    command = [sys.executable, "-I", "-m", "executor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.fixture
def release(tmp_path: Path, home: Path) -> Path:
    return make_release(tmp_path, open_or_create(Home(home).trust, now=datetime.now(UTC)), "release")


@pytest.fixture
def exported(tmp_path: Path, release: Path) -> Path:
    path = tmp_path / "trust.json"
    assert executor("trust", "export", "--out", str(path)).returncode == 0
    return path
