"""What verifies needs three packages: an environment that holds those of signing/README.md, and nothing else."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import venv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from executor.state.home import Home
from signing.local import open_or_create
from tests.unit.signing.conftest import make_release

ROOT = Path(__file__).parents[2]
DOCUMENTED = re.search(r"needs the wheel, ((`\w+`(?:, | and )?)+)", (ROOT / "signing/README.md").read_text())


def documented() -> list[str]:
    assert DOCUMENTED is not None, "signing/README.md does not say what a deploy image needs"
    return re.findall(r"`(\w+)`", DOCUMENTED[1])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel of this project, whose command it returns."""
    folder = tmp_path_factory.mktemp("small")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "env/bin/python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", str(wheel)], check=True, capture_output=True)
    return folder / "env/bin/executor"


def add(command: Path, name: str) -> None:
    """Give an environment a package as it lies in this one, which was installed by its digest."""
    (packages,) = command.parents[1].glob("lib/python*/site-packages")
    for file in importlib.metadata.files(name) or ():
        source = Path(str(file.locate()))
        if ".." not in file.parts and source.exists():
            (packages / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, packages / file)


def test_the_documented_install_verifies_and_one_that_lacks_a_package_says_which(
    small: Path, home: Path, tmp_path: Path
) -> None:
    release = make_release(tmp_path, open_or_create(Home(home).trust, now=datetime.now(UTC)), "release")
    verify = [str(small), "verify", str(release), "--json"]
    lacking = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (lacking.returncode, json.loads(lacking.stdout)["exit_code"]) == (31, 31)
    assert "cryptography" in lacking.stderr
    assert "Traceback" not in lacking.stderr
    for name in documented():
        add(small, name)
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "verified"), done.stderr
    engine = subprocess.run([str(small), "doctor", "--json"], capture_output=True, text=True, check=False)
    assert (engine.returncode, "Traceback" in engine.stderr) == (31, False), "a run needs more, and says so"
