"""A recorded plan turned back into its request, and what becomes of running it when nothing can be compared."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from executor.errors import Cancelled, HostError, ImageMismatchError, RequestError
from executor.exits import Exit
from executor.inspection.compare import PairReport, TensorDifference, parse_reports
from executor.job.prepare import plan_job
from executor.job.spec import JobSpec
from executor.reproduction.comparison import judge, overall
from executor.reproduction.replan import find_inputs, replan
from executor.reproduction.reproduce import NotReproducedError, _run, plan_again
from executor.sandbox.outcome import Outcome, OutcomeKind
from executor.status import status_of
from executor.transfer.inputs import keep_code, load_code, read_code
from signing.verify import verify_release
from tests.unit.signing.conftest import Signed, domain, signed

__all__ = ["domain", "signed"]
SHA = "a" * 64
CODE = (SHA, "main.py")
JOBS: list[dict[str, Any]] = [
    {"kind": "train", "params": {"epochs": 7}, "seed": 3},
    {
        "kind": "script",
        "name": "other",
        "code": {"path": ".", "entry": "main.py"},
        "inputs": {"b": {"uri": "x", "sha256": "b" * 64}, "a": {"uri": "y", "sha256": "c" * 64}},
        "outputs": [{"name": "m.onnx", "role": "model", "required": False}, {"name": "d/x.npz"}],
        "params": {"any": [1, 2.5, None]},
        "limits": {
            "cpus": 1.5,
            "memory_bytes": 1 << 30,
            "pids": 99,
            "wall_seconds": 77.0,
            "idle_seconds": 33.0,
            "input_bytes": 12345,
            "output_bytes": 54321,
            "output_file_bytes": 4321,
            "output_files": 9,
            "log_bytes": 2048,
            "tmp_bytes": 2 << 20,
            "tmp_inodes": 77,
        },
    },
]


def recorded(job: dict[str, Any]) -> dict[str, Any]:
    spec = JobSpec.model_validate({"apiVersion": "executor/v1", **job})
    wire = plan_job(spec, code=CODE if spec.code else None).to_wire()
    document: dict[str, Any] = json.loads(json.dumps(wire))
    return document


@pytest.mark.parametrize("job", JOBS, ids=["train", "script"])
def test_a_plan_comes_out_of_its_own_record_again(job: dict[str, Any]) -> None:
    plan = recorded(job)
    again = replan(plan)
    assert (again.differs, json.loads(json.dumps(again.plan.to_wire()))) == ((), plan)


def test_what_a_newer_executor_would_do_otherwise_is_said() -> None:
    plan = recorded(JOBS[0]) | {"executor": "0.0.1"}
    plan["policy"] = plan["policy"] | {"sha256": SHA}
    assert replan(plan).differs == ("executor", "policy")


def test_another_image_is_not_what_the_release_was_made_in() -> None:
    plan = recorded(JOBS[0])
    plan["image"] = plan["image"] | {"id": f"sha256:{SHA}"}
    with pytest.raises(ImageMismatchError, match="was made in image"):
        replan(plan)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "executor.plan/v9"},
        {"limits": {}},
        {"kind": "other"},
        {"seed": -1},
        {"inputs": []},
        {"image": {"name": "cpu"}},
        {"code": 7},
        {"job": None},
    ],
)
def test_what_is_no_plan_of_this_version_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        replan(recorded(JOBS[0]) | change)


def unreadable(_: Path) -> str:
    raise OSError(5, "Input/output error")


def test_inputs_are_found_by_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, folder = tmp_path / "cas", tmp_path / "data"
    folder.mkdir()
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a", "b")}
    kept = store / "sha256" / digests["a"][:2] / digests["a"]
    kept.parent.mkdir(parents=True)
    kept.write_text("a")
    (folder / "whatever").write_text("b")
    inputs = {name: {"uri": "gone", "sha256": digest} for name, digest in digests.items()}
    spec = JobSpec.model_validate({"apiVersion": "executor/v1", **JOBS[1], "inputs": inputs})
    (folder / "first").write_text("a file that cannot be read")

    def find(*folders: Path, cancelled: bool = False) -> dict[str, Path]:
        return find_inputs(spec, store, folders, cancelled=lambda: cancelled)

    assert find(folder) == {"a": kept, "b": folder / "whatever"}
    with monkeypatch.context() as patch:
        patch.setattr("executor.reproduction.replan._sha256", unreadable)
        with pytest.raises(RequestError, match="input 'b' is not at hand"):
            find(folder)
    with pytest.raises(RequestError, match="input 'b' is not at hand"):
        find()
    with pytest.raises(Cancelled):
        find(folder, cancelled=True)
    with (folder / "whatever").open("r+b") as file:
        file.truncate(spec.limits.input_bytes + 1)
    with pytest.raises(RequestError, match="input 'b' is not at hand"):
        find(folder)


def test_code_is_kept_by_its_tree_and_not_believed_otherwise(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job/main.py").write_text("print(1)")
    tree = read_code(tmp_path / "job", "main.py")
    keep_code(tmp_path / "cas", tree)
    assert load_code(tmp_path / "cas", tree.sha256, "main.py") == tree
    assert load_code(tmp_path / "cas", SHA, "main.py") is None
    kept = tmp_path / "cas/code" / tree.sha256
    for text in (kept.read_text().replace("main", "mein"), "[]", "{", "[1]"):
        kept.chmod(0o600)
        kept.write_text(text)
        assert load_code(tmp_path / "cas", tree.sha256, "main.py") is None
        keep_code(tmp_path / "cas", tree)
        assert load_code(tmp_path / "cas", tree.sha256, "main.py") == tree


@dataclass
class Ended:
    """Stages whose job ends in one way."""

    outcome: Outcome
    folder: Path

    def run_job(self, log_folder: Path) -> tuple[Any, list[Any]]:
        return self, []


@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [
        (OutcomeKind.JOB_FAILED, NotReproducedError, Exit.JOB_FAILED),
        (OutcomeKind.TIMED_OUT, NotReproducedError, Exit.TIMED_OUT),
        (OutcomeKind.OUT_OF_MEMORY, NotReproducedError, Exit.OUT_OF_MEMORY),
        (OutcomeKind.CANCELLED, Cancelled, Exit.CANCELLED),
        (OutcomeKind.HOST_FAULT, HostError, Exit.HOST_RETRYABLE),
    ],
)
def test_a_job_that_does_not_succeed_this_time_ends_the_command_as_it_ended(
    tmp_path: Path, kind: OutcomeKind, error: type[Exception], code: Exit
) -> None:
    stages: Any = Ended(Outcome(kind=kind, reason="x"), folder=tmp_path)
    with pytest.raises(error) as raised:
        _run(stages)
    assert status_of(raised.value)[1] is code


def test_a_plan_that_came_in_its_place_since_it_was_verified_is_not_run(signed: Signed) -> None:
    verified = verify_release(signed.folder, signed.expect)
    (signed.folder / "plan.json").write_text("{}")
    with pytest.raises(HostError, match="changed while it was read"):
        plan_again(signed.folder, verified)


def tensor(*, within: bool) -> TensorDifference:
    return TensorDifference(name="w", shape=[2], dtype="float32", max_abs=0.5, max_rel=0.5, elements=1, within=within)


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        (PairReport(tensors=[tensor(within=True)], count=1, within=True), "within-tolerance"),
        (PairReport(tensors=[tensor(within=False)], count=1, within=False), "different"),
        (PairReport(tensors=[tensor(within=True)], count=1, within=True, missing=["b"]), "different"),
        (PairReport(tensors=[tensor(within=True)], count=1, within=True, added=["b"]), "different"),
        (PairReport(tensors=[tensor(within=True)], count=1, within=True, error="x"), "different"),
        (PairReport(count=0, within=True), "different"),
    ],
)
def test_only_tensors_that_are_near_make_bytes_that_differ_near(report: PairReport, verdict: str) -> None:
    judged = judge("a", SHA, "b" * 64, report)
    assert (judged.verdict, overall([judged])) == (verdict, verdict)
    assert judged.why or judged.tensors


@pytest.mark.parametrize(
    "report",
    [
        {"tensors": [tensor(within=False)], "count": 1, "within": True},
        {"tensors": [tensor(within=True)], "count": 0, "within": True},
        {"tensors": [], "count": 3, "within": True},
    ],
)
def test_a_report_that_contradicts_itself_is_not_believed(report: dict[str, Any]) -> None:
    tensors = [t.model_dump() for t in report["tensors"]]
    with pytest.raises(HostError, match="does not fit"):
        parse_reports({"artifacts": {"a": report | {"tensors": tensors}}}, ["a"])


def test_a_comparison_that_does_not_fit_is_the_hosts_fault() -> None:
    good = {"artifacts": {"a": {"count": 0}}}
    assert set(parse_reports(good, ["a"])) == {"a"}
    wrongs: list[dict[str, Any]] = [
        {},
        {"artifacts": {}},
        {"artifacts": {"a": {"count": -1}}},
        {"artifacts": {"a": {}, "b": {}}},
    ]
    for wrong in wrongs:
        with pytest.raises(HostError):
            parse_reports(wrong, ["a"])
