"""What tests against the real engine share. `make test` sees to it that the engine runs and the image is there."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from executor.events import Events
from executor.job.prepare import prepare
from executor.run.containers import Context
from executor.run.journey import Run, new_run_id
from executor.sandbox.docker import DockerEngine
from executor.state.home import Home, open_home
from executor.state.owner import home_label
from tests.conftest import MADE_WITH

SCRIPTS = Path(__file__).parents[1] / "data/scripts"
LIMITS = {
    "memory_bytes": 512 << 20,
    "tmp_bytes": 64 << 20,
    "wall_seconds": 600,  # for a machine that is slow and busy
    "output_bytes": 32 << 20,
    "log_bytes": 1 << 20,
    "pids": 64,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything under this folder: it needs the engine."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)


@dataclass
class Finished:
    """A finished command."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.stdout)
        return document


@dataclass
class Host:
    """The command line in a state directory of its own."""

    folder: Path
    count: int = 0
    targets: list[Path] = field(default_factory=list)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-I", "-m", "executor", *arguments]

    def call(self, *arguments: str) -> Finished:
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=1800, check=False)
        return Finished(done.returncode, done.stdout, done.stderr)

    def script_job(self, name: str, *outputs: dict[str, Any], **change: Any) -> Path:
        """Write a job file for one of the scripts in `tests/data/scripts`."""
        self.count += 1
        limits = LIMITS | change.pop("limits", {})
        job = {
            "apiVersion": "executor/v1",
            "kind": "script",
            "code": {"path": str(SCRIPTS / f"{name}.py")},
            "outputs": list(outputs) or [{"name": "0.txt", "required": False}],
            "limits": limits,
        }
        path = self.folder / f"job-{self.count}.json"
        path.write_text(json.dumps(job | change))
        return path

    def run(self, job: Path) -> tuple[Finished, Path]:
        """Run a job to JSON; returns what it said and where the release would be."""
        target = self.folder / f"release-{job.stem}"
        done = self.call("run", str(job), "--out", str(target), "--json")
        return done, target

    def run_watched(self, job: Path, home: Path) -> tuple[Finished, Path, int]:
        """Run a job, and return beside the rest the most that the state directory held on the way, in bytes."""
        target, peak = self.folder / f"release-{job.stem}", 0
        command = self.command("run", str(job), "--out", str(target), "--json")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            while process.poll() is None:
                peak = max(peak, disk_bytes(home))
                time.sleep(0.01)
            assert process.stdout is not None
            return Finished(process.returncode, process.stdout.read(), ""), target, peak

    def record(self, done: Finished) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(Path(done.json["record"]).read_text())
        return document


def run_here(
    job: Path, folder: Path, *, observers: tuple[Callable[[dict[str, Any]], None], ...] = (), **context: Any
) -> dict[str, Any]:
    """Run a job in this process, where a test may put its own policy in, and return the result."""
    home, run_id = open_home(), new_run_id()
    run = Run(
        prepare(job, home=home),
        run_id=run_id,
        target=folder / f"release-{run_id}",
        context=Context(home=home, engine=DockerEngine(), **context),
        events=Events(run_id, observers),
    )
    return run.execute()


def made_home() -> Home:
    """Return the state directory that `make image` used: packages, bytecode and layers of the image are there."""
    if MADE_WITH is not None:
        return Home(Path(MADE_WITH).absolute())
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Home(Path(state) / "executor")


def raw_engine() -> Any:
    """Return the engine's own client, for what the executor never does."""
    return docker.APIClient(version="auto")


@pytest.fixture
def host(tmp_path: Path, home: Path) -> Host:
    return Host(tmp_path)


def containers() -> str:
    """List the names of the containers of this test's state directory, running or not."""
    return " ".join(c.name for c in DockerEngine().owned(home_label(open_home())))


def disk_bytes(folder: Path) -> int:
    """Add up what a folder takes on disk."""
    total = 0
    for parent, folders, files in os.walk(folder):  # which, unlike rglob, bears folders that vanish meanwhile
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):
                total += (Path(parent) / name).lstat().st_blocks * 512
    return total
