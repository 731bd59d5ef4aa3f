"""The same on the real engine, with the command as it is started: one call of it fails, or it is killed there."""

import os
import subprocess
from pathlib import Path

import pytest

from executor.errors import ExecutorError
from executor.release.signer import own_expectations
from executor.state.home import Home
from signing.errors import SigningError
from signing.verify import verify_release
from tests.fakes.clock import until
from tests.fakes.faults import KINDS, build, number_of, seeded
from tests.integration.conftest import Host, containers

JOB = ({"name": "greeting.txt"},)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("faults"))


class Faulty:
    """A job that is run under one key, with a fault and without."""

    def __init__(self, host: Host, home: Path, library: Path) -> None:
        self.home = Home(home)
        self.target = host.folder / "out/release"
        self.target.parent.mkdir()
        self.library = library
        job = host.script_job("hello", *JOB)
        self.command = host.command("run", str(job), "--out", str(self.target), "--idempotency-key", "k", "--json")

    def run(self, **environment: str) -> "subprocess.CompletedProcess[str]":
        preload = {"LD_PRELOAD": str(self.library)} if environment else {}
        return subprocess.run(
            self.command,
            capture_output=True,
            text=True,
            env=os.environ | environment | preload,
            check=False,
            timeout=600,
        )

    def release(self) -> str:
        if not self.target.exists():
            return ""
        try:
            return verify_release(self.target, own_expectations(self.home)).manifest_sha256
        except (ExecutorError, SigningError) as err:
            return f"a release that does not verify: {err}"

    def is_clean(self) -> bool:
        beside = [path for path in self.target.parent.iterdir() if path != self.target]
        return containers() == "" and not beside and not list(self.home.runs.iterdir())


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, library: Path) -> dict[str, int]:
    """How often a run makes each kind of call."""
    folder = tmp_path_factory.mktemp("seen")
    host = Host(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXECUTOR_HOME", str(folder / "home"))
        done = Faulty(host, folder / "home", library).run(FAULTS="open:-1:5", FAULTS_SEEN=str(folder / "seen"))
    assert done.returncode == 0, done.stderr
    counts = dict(line.split() for line in (folder / "seen").read_text().splitlines())
    return {kind: int(counts[kind]) for kind in KINDS}


def fault(host: Host, home: Path, library: Path, seen: dict[str, int], number: int) -> None:
    kind, place, error = seeded(number, seen)
    faulty = Faulty(host, home, library)
    done = faulty.run(FAULTS=f"{kind}:{place}:{number_of(error)}")
    release = faulty.release()
    print(f"{number}: {kind} {place} of {seen[kind]}: {error or 'SIGKILL'}: {done.returncode}, {bool(release)}")
    assert not release.startswith("a release")
    if done.returncode >= 0:
        assert (done.returncode == 0) == bool(release), done.stderr
    until(faulty.is_clean)
    assert faulty.release() == release, "what the next one does changes no release"
    second = faulty.run()
    assert second.returncode == 0, second.stderr
    assert release in ("", faulty.release()), "a key has one release"
    until(faulty.is_clean)


@pytest.mark.parametrize("number", range(4))
def test_a_failing_call_never_parts_the_exit_code_from_the_release(
    host: Host, home: Path, library: Path, seen: dict[str, int], number: int
) -> None:
    fault(host, home, library, seen, number)


@pytest.mark.faults
@pytest.mark.parametrize("number", range(100, 200))
def test_a_hundred_failing_calls_never_part_them(
    host: Host, home: Path, library: Path, seen: dict[str, int], number: int
) -> None:
    fault(host, home, library, seen, number)
