"""Runs the command on the engine in memory, each time with one system call failing, and says where it broke its word.

Started with the library of `faults.c` loaded: `python -m tests.fakes.faulty_runs FOLDER COUNT SEED`. Each run is a fork
of this process, with a state directory of its own; beside the seed's number it prints what was wrong.
"""

import ctypes
import json
import os
import shutil
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from executor.cli import app
from executor.cli import run as run_module
from executor.cli.main import main
from executor.errors import ExecutorError
from executor.job.plan import LaunchPlan
from executor.job.prepare import prepare
from executor.recovery.sweep import recover
from executor.release.signer import own_expectations
from executor.state.home import Home
from executor.state.runs import Runs
from signing.errors import SigningError
from signing.verify import verify_release
from tests.fakes.engine import FakeEngine
from tests.fakes.faults import KINDS, number_of, seeded
from tests.unit.executor.run.test_journey import inventory, job, replay

HANGS_SECONDS = 120
HUNG = 124
faults = ctypes.CDLL(None)
DOCUMENT = {
    "apiVersion": "executor/v1",
    "kind": "script",
    "code": {"path": "main.py"},
    "outputs": [{"name": "model.onnx", "role": "model"}, {"name": "v.npz", "role": "test-vectors"}],
    "limits": {"wall_seconds": 60},
}


class World:
    """One state directory and one job, run more than once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.home = Home(folder / "home")
        self.target = folder / "out/release"
        self.target.parent.mkdir()
        (folder / "main.py").write_text("pass")
        (folder / "job.json").write_text(json.dumps(DOCUMENT))

    def run(self, plan: LaunchPlan, *, fault: tuple[int, int, int] | None = None) -> int | None:
        """Run the job under its key; return the exit code, or None where it was killed."""
        pid = os.fork()
        if pid == 0:
            self._be_run(plan, fault)
        deadline = time.monotonic() + HANGS_SECONDS
        while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return HUNG
            time.sleep(0.002)
        return os.WEXITSTATUS(ended[1]) if os.WIFEXITED(ended[1]) else None

    def _be_run(self, plan: LaunchPlan, fault: tuple[int, int, int] | None) -> NoReturn:
        os.environ["EXECUTOR_HOME"] = str(self.home.root)
        null = os.open(os.devnull, os.O_RDONLY)
        said = os.open(self.folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(null, 0)
        os.dup2(said, 1)
        os.dup2(said, 2)
        engine = FakeEngine(job, inventory(), replay(), image_id=plan.job.image_id)
        for name, double in (("DockerEngine", lambda **_: engine), ("Reaper", NoReaper)):
            setattr(run_module, name, double)
        faults.faults_arm(*(fault or (-1, 0, 0)), 1)
        words = ("--out", str(self.target), "--idempotency-key", "k", "--json", "--cold")
        code = main(["run", str(self.folder / "job.json"), *words])
        seen = {kind: faults.faults_seen(number) for number, kind in enumerate(KINDS)}
        faults.faults_disarm()
        (self.folder / "seen").write_text(json.dumps(seen))
        os._exit(code)

    def stands(self) -> str:
        """The digest of the release's manifest, or nothing where there is no release that verifies."""
        if not self.target.exists():
            return ""
        try:
            return verify_release(self.target, own_expectations(self.home)).manifest_sha256
        except (ExecutorError, SigningError) as err:
            return f"a release that does not verify: {err}"

    def left(self) -> list[str]:
        """What the next start leaves of a run that has ended."""
        recover(None, self.home, now=lambda: datetime.now(UTC))
        found = [str(path.relative_to(self.folder)) for path in self.home.runs.iterdir()]
        found += [path.name for path in self.target.parent.iterdir() if path != self.target]
        return found + [f"unfinished {run.run_id}" for run in Runs(self.home.runs_database).unfinished()]


class NoReaper:
    """In place of the process that cleans up: here the next start does."""

    def __init__(self, _home: Home) -> None:
        self.owed: Any = tuple

    def __enter__(self) -> "NoReaper":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def wrong(world: World, plan: LaunchPlan, fault: tuple[int, int, int]) -> list[str]:
    """Run once with the fault and once more without; return what was not as promised."""
    found = []
    code, release = world.run(plan, fault=fault), world.stands()
    if release.startswith("a release"):
        found.append(release)
    if code is not None and (code == 0) != bool(release):
        found.append(f"exit {code}, and {'a' if release else 'no'} release")
    if code in (1, 70, 120, HUNG):
        found.append(f"exit {code}")
    if left := world.left():
        found.append(f"left: {left}")
    if world.stands() != release:
        found.append("a release was lost or made by the next start")
    second = world.run(plan)
    if second != 0:
        found.append(f"the same key again: exit {second}")
    if release and world.stands() != release:
        found.append("the second run with the key made another release")
    return found


def run_all(folder: Path, count: int, first: int) -> int:
    """Run as often as asked, and print what was wrong."""
    app.run(["version"])  # what the first command loads, no other loads again
    clean = World(folder / "clean")
    plan = prepare(clean.folder / "job.json", home=clean.home).plan
    assert clean.run(plan) == 0, (clean.folder / "said").read_text()
    seen = json.loads((clean.folder / "seen").read_text())
    print("calls:", seen, flush=True)
    ends: dict[str, int] = {}
    bad, began = 0, time.monotonic()
    for number in range(first, first + count):
        kind, place, name = seeded(number, seen)
        fault = (KINDS.index(kind), place, number_of(name))
        world = World(folder / str(number))
        found = wrong(world, plan, fault)
        name = name or "SIGKILL"
        ends[name] = ends.get(name, 0) + 1
        if found:
            bad += 1
            print(f"{number}: {kind} {place}: {name}: {'; '.join(found)}", flush=True)
        else:
            shutil.rmtree(world.folder)
    print(f"{count} runs, {bad} wrong, by fault {ends}, {time.monotonic() - began:.0f} s")
    return bad


if __name__ == "__main__":
    sys.exit(min(run_all(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])), 99))
