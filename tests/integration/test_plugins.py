"""Libraries of custom operators: the listed one loads and its model is released; no other byte is ever opened."""

import functools
import hashlib
import importlib
import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from executor.errors import RequestError
from executor.inspection.decision import decide_again
from executor.job import prepare as prepare_module
from executor.job.plan import plan_launch
from executor.job.spec import JobSpec
from executor.transfer.inputs import copy_input
from images.lock import load_lock
from policy.load import load_policy
from tests.integration.conftest import Host, run_here
from tests.integration.plugins import OPERATORS, PROFILE, Library, build, listed

TRIALS = 100
RUNTIMES = ("onnxruntime", "torch")
OUTPUTS = {"onnxruntime": ["model.onnx"], "torch": ["model.pt", "model.pt2"]}
DENIALS = {
    "onnxruntime": {"ONNX-DEFAULT-DENY", "ONNX-OPSET-IMPORT"},
    "torch": {"TORCHSCRIPT-DEFAULT-DENY", "PT2-DEFAULT-DENY"},
}
plugins: Any = importlib.import_module("worker.plugins")
elf: Any = importlib.import_module("worker.inventory.elf")


@pytest.fixture(scope="module", params=RUNTIMES)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    return build(request.param, tmp_path_factory.mktemp(request.param))


def facts(library: Library) -> dict[str, Any]:
    found: dict[str, Any] = elf.inventory(library.path.read_bytes()).to_wire()["facts"]
    return found


def job_for(host: Host, library: Library, *, profile: str = PROFILE, plugged: bool) -> Path:
    """Return a job that exports models of one custom operator, with the library among its inputs or not."""
    return host.script_job(
        "custom_operator",
        *({"name": name, "role": "model"} for name in OUTPUTS[library.runtime]),
        {"name": "vectors.npz", "role": "test-vectors"},
        inputs={"library": {"uri": str(library.path), "sha256": library.sha256}} if plugged else {},
        plugins=["library"] if plugged else [],
        params={"runtime": library.runtime},
        profile=profile,
        limits={"memory_bytes": 2 << 30, "tmp_bytes": 256 << 20, "pids": 128, "wall_seconds": 1200},
    )


@pytest.fixture
def policy(host: Host, library: Library, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a policy in force that lists the library."""
    folder = listed(library, folder=host.folder, facts={library.runtime: facts(library)})
    monkeypatch.setattr(prepare_module, "load_policy", functools.partial(load_policy, folder=folder))
    return folder


def denied_by(job: Path, host: Host) -> set[str]:
    """Run a job that the policy denies, and return the rules that do."""
    result = run_here(job, host.folder)
    assert result["status"] == "denied", result
    return {finding["rule"] for finding in result["findings"]}


def test_the_listed_library_loads_and_its_model_goes_from_denied_to_released(
    host: Host, library: Library, policy: Path
) -> None:
    for profile in ("standard", PROFILE):  # not listed, and listed and not named by the job
        assert denied_by(job_for(host, library, profile=profile, plugged=False), host) == DENIALS[library.runtime]
    result = run_here(job_for(host, library, plugged=True), host.folder)
    assert result["status"] == "released", result
    manifest = json.loads((Path(result["release"]) / "manifest.json").read_text())
    (needed,) = manifest["details"]["plugins"]
    assert needed == {
        "name": f"twice-{library.runtime}",
        "sha256": library.sha256,
        "runtime": library.runtime,
        "operators": [OPERATORS[library.runtime]],
    }
    record = json.loads(Path(result["record"]).read_text())
    replayed = record["inspection"]["replay"]["models"]
    assert sorted(replayed) == OUTPUTS[library.runtime]
    assert all(model["registered"] == [OPERATORS[library.runtime]] for model in replayed.values())
    assert decide_again(record) == record["decision"]


def test_a_library_that_registers_less_or_needs_other_than_is_listed_is_denied(
    host: Host, library: Library, policy: Path
) -> None:
    file = policy / f"plugins/twice-{library.runtime}.toml"
    text, operator = file.read_text(), f'operators = ["{OPERATORS[library.runtime]}"'
    more = "a::B" if library.runtime == "onnxruntime" else "a::b.default"
    for old, new, rule in (
        (operator, f'{operator}, "{more}"', "PLUGIN-REGISTERED"),
        ("libc.so.6", "libm.so.6", "PLUGIN-ELF"),
    ):
        file.write_text(text.replace(old, new))
        assert denied_by(job_for(host, library, plugged=True), host) == {rule}


@pytest.fixture(scope="module")
def marking(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The same library with a constructor that leaves a mark."""
    folder = tmp_path_factory.mktemp(f"marking-{library.runtime}")
    return build(library.runtime, folder, marker=folder / "marker")


def opened(path: Path, library: Library) -> None:
    """Have the dynamic loader open a library, in a process of its own: torch's has only an empty one to bind to."""
    env = {"LD_PRELOAD": str(path), "LD_LIBRARY_PATH": str(library.path.parent)}
    subprocess.run(["/bin/true"], env=env, capture_output=True, check=False)


def load(library: Library, path: Path, sha256: str) -> None:
    """Load as the replay does. The options are never reached where the bytes are not the listed ones."""
    if library.runtime == "onnxruntime":
        plugins.load_for_onnxruntime(None, path, sha256)
    else:
        plugins.load_for_torch(path, sha256)


def changed(library: Library, dice: random.Random) -> bytes:
    """Return the library with one byte changed."""
    data = bytearray(library.path.read_bytes())
    data[dice.randrange(len(data))] ^= dice.randrange(1, 256)
    return bytes(data)


def unlisted(library: Library, dice: random.Random) -> bytes:
    """Return another library that works as well: loaders do not look at what follows the last segment."""
    return library.path.read_bytes() + dice.randbytes(8)


@pytest.mark.parametrize("make", [changed, unlisted])
def test_no_byte_that_is_not_listed_is_ever_opened(
    marking: Library, make: Callable[[Library, random.Random], bytes], tmp_path: Path
) -> None:
    dice, other = random.Random(7), tmp_path / "other.so"
    other.write_bytes(unlisted(marking, dice))
    opened(other, marking)
    assert marking.marker.exists(), "without a check before it, opening the library runs its constructor"
    marking.marker.unlink()
    job = {
        "apiVersion": "executor/v1",
        "kind": "script",
        "code": {"path": "main.py"},
        "outputs": [{"name": "model.onnx", "role": "model"}],
        "plugins": ["library"],
    }
    policy = load_policy(PROFILE, folder=listed(marking, folder=tmp_path, facts={marking.runtime: facts(marking)}))
    for _ in range(TRIALS):
        other.write_bytes(make(marking, dice))
        digest = hashlib.sha256(other.read_bytes()).hexdigest()
        spec = JobSpec.model_validate(job | {"inputs": {"library": {"uri": str(other), "sha256": digest}}})
        with pytest.raises(RequestError, match="is no plugin of profile"):
            plan_launch(spec, image=load_lock("cpu"), policy=policy, code=None)
        for named, message in ((digest, "native library"), (marking.sha256, "native library|the job names")):
            with pytest.raises(RequestError, match=message):
                take(tmp_path, other, named, native=named == marking.sha256)
        with pytest.raises(plugins.PluginError, match="the policy lists"):
            load(marking, other, marking.sha256)
    assert not marking.marker.exists()
    assert not (tmp_path / "copy").exists()
    assert plugins.checked(marking.path, marking.sha256) == str(marking.path)
    opened(marking.path, marking)
    assert marking.marker.exists(), "the listed one passes, and would run"


def take(folder: Path, source: Path, sha256: str, *, native: bool) -> None:
    copy_input(
        source,
        folder / "copy",
        sha256=sha256,
        name="library",
        bytes_max=1 << 24,
        native=native,
        cancelled=lambda: False,
    )
