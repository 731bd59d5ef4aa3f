"""What callers read of a run, fixed as documents: `python -m tests.contract.wire` writes `tests/data/wire` anew.

Runs on the engine in memory. What differs between two runs, and what a new lock or policy changes (digests, wheels, the
policy itself), has a word of its own in angle brackets; every other byte and the order of keys stand as they are.
"""

import base64
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - puts the worker where it is found
from executor.errors import HostError, ImageMismatchError, RequestError
from executor.state.home import open_home
from executor.status import failure_wire
from tests.fakes.engine import Worker
from tests.unit.executor.run.test_journey import EVIL_OPERATOR, World, inventory, job, replay

FOLDER = Path(__file__).parents[1] / "data/wire"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]+(Z|\+00:00))?")
_MEASURED = frozenset({"used", "cpu_seconds", "ts"})
_REPLACED = {"wheels": "<wheels>", "policy": "<policy>"}


def fail(worker: Worker) -> None:
    """Fail as a script does that raises."""
    worker.say(type="error", error="ValueError", message="no such column")
    worker.exit(1)


def report_nothing(worker: Worker) -> None:
    """Report on none of the artifacts, which is nobody's fault but the host's."""
    worker.finish({"artifacts": {}, "plugins": {}, "environment": {}})


def run_on_a_host_that_fails(world: World) -> dict[str, Any]:
    """Run a job whose inspection fails."""
    try:
        return world.run(job, report_nothing)
    except HostError as err:
        return failure_wire(err)


def run_over_limit(world: World) -> dict[str, Any]:
    """Run a job that sends more bytes than it may."""

    def exceed(worker: Worker) -> None:
        worker.output("model.onnx", b"model", role="model")
        worker.killed.wait(120)

    world.document["limits"]["output_bytes"] = 4
    return world.run(exceed)


def run_cancelled(world: World) -> dict[str, Any]:
    """Run a job that is told to stop as it prints."""

    def stop(worker: Worker) -> None:
        world.cancel = True
        worker.killed.wait(120)

    return world.run(stop)


CASES: Mapping[str, Callable[[World], dict[str, Any]]] = {
    "released": lambda world: world.run(job, inventory(), replay()),
    "denied-operator": lambda world: world.run(job, inventory(EVIL_OPERATOR), replay()),
    "denied-replay": lambda world: world.run(job, inventory(), replay(1.0)),
    "job-failed": lambda world: world.run(fail),
    "limit-exceeded": run_over_limit,
    "host-fault": run_on_a_host_that_fails,
    "cancelled": run_cancelled,
}
ERRORS = (
    RequestError("limits.cpus is 9, profile 'standard' allows 8", hint="ask for less, or for another profile"),
    ImageMismatchError("the engine does not have image 'cpu'", hint="load it: executor image load cpu"),
    HostError("no Docker Engine answers", hint="start it"),
)


def documents(case: str, world: World) -> dict[str, Any]:
    """Return what a case prints and leaves, with what is particular to this run replaced."""
    result = CASES[case](world)
    found: dict[str, Any] = {"result": result, "events": world.events, "record": world.record()}
    if world.target.is_dir():
        for name in ("manifest.json", "plan.json", "decision.json"):
            found[name] = json.loads((world.target / name).read_text(encoding="utf-8"))
        found["files"] = sorted(str(p.relative_to(world.target)) for p in world.target.rglob("*") if p.is_file())
    log = world.home.log / "run-1"
    found["log"] = sorted(str(p.relative_to(log)) for p in log.rglob("*") if p.is_file())
    bundles = [*world.target.rglob("*.sigstore.json"), *log.rglob("*.sigstore.json")]
    found["statements"] = {path.name: _payload(path) for path in sorted(bundles, key=lambda p: (p.name, str(p)))}
    scrubbed: dict[str, Any] = _scrub(found, str(world.target.parent))
    return scrubbed


def errors() -> list[dict[str, Any]]:
    """Return the documents of runs that were refused."""
    return [failure_wire(error) for error in ERRORS]


def _payload(path: Path) -> Any:
    return json.loads(base64.b64decode(json.loads(path.read_text(encoding="utf-8"))["dsseEnvelope"]["payload"]))


def _scrub(value: Any, folder: str, key: str = "") -> Any:
    if key in _REPLACED and isinstance(value, list | dict) and len(value) > 2:
        return _REPLACED[key]
    if isinstance(value, dict):
        inner = "timings" if key == "timings" else None
        return {_text(k, folder): _scrub(v, folder, inner or k) for k, v in value.items()}
    if isinstance(value, list):
        return [_scrub(v, folder) for v in value]
    if isinstance(value, str):
        return _text(value, folder)
    return "<measured>" if isinstance(value, float) and key in _MEASURED | {"timings"} else value


def _text(value: str, folder: str) -> str:
    return _TIME.sub("<time>", _DIGEST.sub("<sha256>", value.replace(folder, "<folder>")))


def render(document: Any) -> str:
    """Return the text of a golden file."""
    return json.dumps(document, indent=1) + "\n"


def main() -> None:
    """Write every golden file."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "errors.json").write_text(render(errors()), encoding="utf-8")
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["EXECUTOR_HOME"] = f"{folder}/home"
            world = World(Path(folder), open_home().root)
            (FOLDER / f"{case}.json").write_text(render(documents(case, world)), encoding="utf-8")


if __name__ == "__main__":
    main()
