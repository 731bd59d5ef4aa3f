"""The whole journey on a fake engine: what is released, what is recorded, and that the two never disagree."""

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from executor.cli.progress import describe
from executor.errors import Cancelled, HostError, ImageMismatchError, RequestError, UnsupportedError
from executor.events import Events, Subscriber
from executor.job import prepare as prepare_module
from executor.job.prepare import prepare
from executor.recovery.sweep import settle
from executor.release import publish as release_module
from executor.release.signer import open_host_signer
from executor.run import journey, readiness
from executor.run.containers import Context
from executor.run.journey import Run
from executor.state.home import Home
from executor.state.runs import Runs
from executor.status import failure_wire, render_error
from policy.load import load_policy, make_policy
from policy.model import Waiver
from signing.bundle import Bundle, parse_bundle
from signing.errors import SigningError, TrustDomainError
from signing.local import LocalTrustDomain
from signing.manifest import parse_manifest
from signing.record import verify_record
from signing.signer import Signer
from signing.statement import Statement
from signing.verify import verify_release
from tests.fakes.engine import FakeEngine, Script, Worker

ENVIRONMENT = {"python": "3.11.2", "torch": "2.13.0+cpu", "cuda": "cpu", "cudnn": "none"}
GOOD_OPERATOR = {"namespace": "", "name": "Relu", "count": 1, "places": ["graph/node[0]"]}
EVIL_OPERATOR = {"namespace": "evil.ops", "name": "Run", "count": 1, "places": ["graph/node[0]"]}


def job(worker: Worker) -> None:
    worker.say(type="progress", values={"epoch": 1})
    worker.output("model.onnx", b"model", role="model")
    worker.output("v.npz", b"vectors", role="test-vectors")
    worker.finish({"metrics": {"accuracy": 0.5, "huge": 10**18, "text": "no", "flag": True}})


def inventory(operator: dict[str, Any] = GOOD_OPERATOR) -> Script:
    def script(worker: Worker) -> None:
        model = {
            "format": "onnx",
            "facts": {"ir_version": 10, "opset_imports": {"": 20}},
            "operators": [operator],
            "findings": [],
        }
        vectors = {"format": "npz", "facts": {}, "operators": [], "findings": []}
        worker.finish({"artifacts": {"model.onnx": model, "v.npz": vectors}, "plugins": {}, "environment": ENVIRONMENT})

    return script


def replay(max_abs: float = 1e-7) -> Script:
    def script(worker: Worker) -> None:
        assert worker.launch["params"] == {"models": {"model.onnx": "onnx"}, "vectors": "v.npz", "plugins": {}}
        case = {"case": "a", "shape": [1, 2], "max_abs": max_abs, "allowed": 1e-5, "argmax_agreement": 1.0}
        models = {"model.onnx": {"cases": [case], "operators": []}}
        worker.finish({"models": models, "atol": 1e-5, "rtol": 1e-5, "environment": {"cuda": "cpu", "cudnn": "none"}})

    return script


class World:
    """A job file, a home and a target."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.home = Home(home)
        self.target = folder / "release"
        self.events: list[dict[str, Any]] = []
        (folder / "main.py").write_text("pass")
        self.document: dict[str, Any] = {
            "apiVersion": "executor/v1",
            "kind": "script",
            "code": {"path": "main.py"},
            "outputs": [{"name": "model.onnx", "role": "model"}, {"name": "v.npz", "role": "test-vectors"}],
            "limits": {"wall_seconds": 10},
        }
        self.job_file = folder / "job.json"
        self.cancel = False
        self.subscribers: tuple[Subscriber, ...] = ()
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def run(
        self, *scripts: Script, image_id: str | None = None, key: str | None = None, run_id: str = "run-1"
    ) -> dict[str, Any]:
        self.job_file.write_text(json.dumps(self.document))
        prepared = prepare(self.job_file, home=self.home)
        self.engine = FakeEngine(*scripts, image_id=image_id or prepared.plan.job.image_id)
        context = Context(home=self.home, engine=self.engine, now=self.now, cancelled=lambda: self.cancel)
        events = Events(run_id, self.subscribers or (self.events.append,))
        run = Run(prepared, run_id=run_id, target=self.target, context=context, events=events, key=key)
        return run.execute()

    def record(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.home.log / "run-1/record.json").read_text())
        return document

    def signer(self) -> Signer:
        return open_host_signer(self.home, now=datetime.now(UTC))

    def nothing_left(self) -> bool:
        partial = list(self.target.parent.glob(".*.partial"))
        return not self.target.exists() and not partial and list(self.home.runs.iterdir()) == []


@pytest.fixture
def world(tmp_path: Path, home: Path) -> World:
    return World(tmp_path, home)


def test_an_honest_job_becomes_a_verified_release(world: World) -> None:
    result = world.run(job, inventory(), replay())
    assert (result["status"], result["exit_code"], result["release"]) == ("released", 0, str(world.target))
    verified = verify_release(world.target, world.signer().expectations())
    assert [f.path for f in verified.manifest.files] == [
        "artifacts/model.onnx",
        "artifacts/v.npz",
        "decision.json",
        "plan.json",
    ]
    assert list(world.home.runs.iterdir()) == []
    assert len(world.engine.removed) == 3


def test_what_is_waived_is_released_and_counted_apart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    standard, today = load_policy("standard"), datetime.now(UTC).date()
    waiver = Waiver(
        id="WAIVER-ONE",
        artifact_sha256=hashlib.sha256(b"model").hexdigest(),
        format="onnx",
        namespace="evil.ops",
        name="Run",
        reason="for this test alone",
        reviewer="security-review",
        reviewed=today,
        expires=today + timedelta(1),
    )
    profile = standard.profile.model_copy(update={"waiver": (waiver,)})
    waiving = make_policy(profile, standard.operators, {}, standard.seccomp_text)
    assert world.run(job, inventory(EVIL_OPERATOR))["status"] == "denied"
    monkeypatch.setattr(prepare_module, "load_policy", lambda name: waiving)
    result = world.run(job, inventory(EVIL_OPERATOR), replay(), run_id="run-2")
    assert (result["status"], result["findings"]) == ("released", [])
    assert [w["remedy"] for w in result["waived"]] == [f"waived by WAIVER-ONE until {waiver.expires}"]
    decided = [event for event in world.events if event["event"] == "decided"][-1]
    assert decided["waived"] == result["waived"]
    assert describe(decided) == "policy: allowed, 1 waived"
    kept = json.loads((world.target / "decision.json").read_text())
    assert kept["waived"] == result["waived"]


def test_the_manifest_says_how_the_release_came_to_be(world: World) -> None:
    result = world.run(job, inventory(), replay())
    manifest = parse_manifest((world.target / "manifest.json").read_bytes())
    details = manifest.details
    assert details["environment"]["torch"] == "2.13.0+cpu"
    assert details["environment"]["cuda"] == "cpu"
    assert {w["name"] for w in details["environment"]["wheels"]} >= {"torch", "torch-geometric", "onnx"}
    assert details["artifacts"]["model.onnx"]["operators"] == [GOOD_OPERATOR]
    assert details["replay"]["models"]["model.onnx"]["cases"][0]["max_abs"] == 1e-7
    assert details["metrics_claimed"] == {"accuracy": 0.5, "huge": 1e18}
    assert details["plan_sha256"] == result["plan_sha256"]


def test_inspections_see_the_quarantine_and_neither_code_nor_inputs(world: World) -> None:
    seen: list[tuple[list[str], list[str]]] = []

    def look(script: Script) -> Script:
        def looking(worker: Worker) -> None:
            folder = world.engine.requests[-1].folder
            inputs, code = (sorted(p.name for p in (folder / name).iterdir()) for name in ("in", "code"))
            seen.append((inputs, code))
            script(worker)

        return looking

    (world.job_file.parent / "table").write_text("x")
    world.document["inputs"] = {"table": {"uri": "table", "sha256": hashlib.sha256(b"x").hexdigest()}}
    world.run(look(job), look(inventory()), look(replay()))
    assert seen == [(["table"], ["main.py"]), (["0000", "0001"], []), (["0000", "0001"], [])]


def test_events_are_numbered_without_gaps(world: World) -> None:
    world.run(job, inventory(), replay())
    assert [e["seq"] for e in world.events] == list(range(len(world.events)))
    assert [e["event"] for e in world.events] == [
        "accepted",
        "started",
        "progress",
        "exited",
        "collected",
        "warning",
        "warning",
        "inspecting",
        "inspecting",
        "decided",
        "released",
    ]


def test_a_denied_operator_releases_nothing_and_the_record_says_rule_and_place(world: World) -> None:
    result = world.run(job, inventory(EVIL_OPERATOR), replay())
    assert (result["status"], result["exit_code"], result["release"]) == ("denied", 20, None)
    assert world.nothing_left()
    (finding,) = world.record()["findings"]
    assert (finding["rule"], finding["artifact"], finding["place"]) == (
        "ONNX-DEFAULT-DENY",
        "model.onnx",
        "graph/node[0]",
    )
    assert finding["remedy"]


def test_what_the_inventory_denies_is_never_loaded(world: World) -> None:
    world.run(job, inventory(EVIL_OPERATOR), replay())
    assert len(world.engine.requests) == 2


def test_a_model_that_differs_from_its_test_vectors_is_denied(world: World) -> None:
    result = world.run(job, inventory(), replay(max_abs=1.0))
    assert result["findings"][0]["rule"] == "REPLAY-DIFFERENCE"
    assert world.nothing_left()


def test_denials_and_failures_are_signed_like_releases(world: World) -> None:
    world.run(job, inventory(EVIL_OPERATOR), replay())
    denied = verify_record(world.home.log / "run-1", world.signer().expectations())
    assert (denied.status, denied.stages) == ("denied", ("request", "sandbox", "decision", "summary"))
    summary = json.loads(statement_in(world.home.log / "run-1/attestations/summary.sigstore.json"))["predicate"]
    assert (summary["verificationResult"], len(summary["inputAttestations"])) == ("FAILED", 3)
    world.run(lambda w: w.finish(code=3), run_id="run-2")
    failed = verify_record(world.home.log / "run-2", world.signer().expectations())
    assert (failed.status, failed.stages) == ("job_failed", ("request", "sandbox"))


def statement_in(bundle: Path) -> bytes:
    return parse_bundle(bundle.read_bytes()).payload


def test_a_record_and_its_release_hold_the_same_statements(world: World) -> None:
    world.run(job, inventory(), replay())
    for stage in ("request", "sandbox", "decision"):
        name = f"attestations/{stage}.sigstore.json"
        assert statement_in(world.target / name) == statement_in(world.home.log / "run-1" / name)


def test_a_job_that_fails_is_not_inspected(world: World) -> None:
    result = world.run(lambda w: w.finish(code=3))
    assert (result["exit_code"], result["outcome"]["job_exit_code"]) == (10, 3)
    assert len(world.engine.requests) == 1
    assert world.nothing_left()


def test_a_required_output_that_is_missing_fails_the_job(world: World) -> None:
    def half(worker: Worker) -> None:
        worker.output("v.npz", b"vectors", role="test-vectors")
        worker.finish()

    result = world.run(half)
    assert (result["exit_code"], result["status"]) == (10, "job_failed")
    assert "'model.onnx'" in result["outcome"]["reason"]


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"artifacts": {}, "plugins": {}, "environment": {}},
        {"artifacts": {"x": 1}, "plugins": {}, "environment": {}},
    ],
)
def test_an_inventory_that_does_not_fit_is_the_hosts_fault(world: World, report: dict[str, Any]) -> None:
    with pytest.raises(HostError, match="inventory"):
        world.run(job, lambda w: w.finish(report))
    assert world.record()["exit_code"] == 30
    assert world.nothing_left()


def test_an_artifact_that_kills_its_inspection_is_denied(world: World) -> None:
    result = world.run(job, lambda w: w.finish(code=139, number=11))
    assert {f["rule"] for f in result["findings"]} >= {"INVENTORY-FAILED"}
    assert result["exit_code"] == 20


def test_a_model_that_kills_its_replay_is_denied(world: World) -> None:
    result = world.run(job, inventory(), lambda w: w.finish(code=139, number=11))
    assert [f["rule"] for f in result["findings"]] == ["REPLAY-FAILED"]


def test_an_existing_target_is_refused_before_anything_starts(world: World) -> None:
    world.target.mkdir()
    with pytest.raises(RequestError, match="exists already"):
        world.run(job)
    assert world.engine.requests == []


def test_an_engine_with_another_image_is_refused_before_anything_starts(world: World) -> None:
    with pytest.raises(ImageMismatchError):
        world.run(job, image_id="sha256:" + "0" * 64)
    assert world.engine.requests == []


def test_an_input_of_another_digest_is_refused_before_anything_starts(world: World, tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(b"x")
    world.document["inputs"] = {"table": {"uri": "table", "sha256": "0" * 64}}
    with pytest.raises(RequestError, match="the job names") as refused:
        world.run(job)
    assert world.engine.requests == []
    assert world.nothing_left()
    assert "the job names" in render_error(refused.value)
    assert refused.value.record == str(world.home.log / "run-1/record.json")
    assert failure_wire(refused.value)["record"] == refused.value.record
    assert world.record()["exit_code"] == 21


def test_a_full_disk_is_the_hosts_fault_and_recorded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("executor.release.stage.create", full)
    with pytest.raises(HostError, match="No space left") as failed:
        world.run(job, inventory(), replay())
    assert world.record()["exit_code"] == 30
    assert "No space left" in render_error(failed.value)
    assert world.nothing_left()


def test_a_subscriber_that_fails_is_dropped_and_decides_over_nothing(world: World) -> None:
    def gone(event: dict[str, Any]) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    world.subscribers = (gone, world.events.append)
    assert world.run(job, inventory(), replay())["status"] == "released"
    assert [e["seq"] for e in world.events] == list(range(len(world.events)))


def test_a_run_that_is_cancelled_during_inspection_releases_nothing(world: World) -> None:
    def slow(worker: Worker) -> None:
        world.cancel = True
        worker.killed.wait(10)

    with pytest.raises(Cancelled):
        world.run(job, slow)
    assert world.record()["status"] == "cancelled"
    assert world.nothing_left()


def test_a_release_whose_record_cannot_be_signed_is_taken_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sign, calls = LocalTrustDomain.sign, []

    def fail(domain: LocalTrustDomain, statements: Sequence[Statement], *, now: datetime) -> list[Bundle]:
        calls.append(len(statements))
        if len(calls) == 2:
            raise SigningError("the log is full", hint="make room")
        return sign(domain, statements, now=now)

    monkeypatch.setattr(LocalTrustDomain, "sign", fail)
    with pytest.raises(SigningError, match="record") as failed:
        world.run(job, inventory(), replay())
    assert world.nothing_left()
    assert "released" not in [event["event"] for event in world.events]
    record, wire = world.record(), failure_wire(failed.value)
    assert (record["status"], record["exit_code"], record["release"]) == ("signing_failed", 32, None)
    assert record["unsigned"] == {"status": "released", "exit_code": 0, "error": None}
    assert (wire["run_id"], wire["record"]) == ("run-1", str(world.home.log / "run-1/record.json"))
    assert wire["error"]["hint"] == "make room"


def test_a_fault_of_ours_leaves_its_record_as_well(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("executor.run.inspections.decide", fail)
    with pytest.raises(KeyError) as failed:
        world.run(job, inventory(), replay())
    assert world.nothing_left()
    assert (world.record()["status"], world.record()["exit_code"]) == ("internal_error", 70)
    assert failure_wire(failed.value)["record"] == str(world.home.log / "run-1/record.json")
    recorded = verify_record(world.home.log / "run-1", world.signer().expectations())
    assert (recorded.status, recorded.stages) == ("internal_error", ("request", "sandbox"))


def test_a_release_that_can_be_neither_recorded_nor_taken_back_has_been_released(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 0 and a release that verifies go together, whatever fails after it has its name."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(journey, "write_record", fail)
        patch.setattr(journey, "withdraw", fail)
        result = world.run(job, inventory(), replay())
    assert (result["status"], result["exit_code"], "record" in result) == ("released", 0, False)
    assert "record could not be written" in result["warnings"][-1]
    verify_release(world.target, world.signer().expectations())
    assert list(world.home.runs.iterdir()) == []
    (unfinished,) = Runs(world.home.runs_database).unfinished()
    settle(unfinished, Runs(world.home.runs_database), world.home, now=world.now)
    assert world.record()["status"] == "released", "the next one writes the record"


@pytest.mark.parametrize("readable", [True, False])
def test_a_name_that_the_disk_may_not_hold_is_taken_back_or_stands(
    world: World, monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    sync = release_module._sync_one

    def fail(path: str | Path) -> None:
        if Path(path) == world.target.parent:
            raise OSError(5, "Input/output error")
        sync(path)

    def unreadable(*_: Any) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(release_module, "_sync_one", fail)
    if readable:
        with pytest.raises(HostError, match="cannot put the release in place"):
            world.run(job, inventory(), replay())
        assert world.nothing_left()
    else:
        monkeypatch.setattr(journey, "is_release", unreadable)
        assert world.run(job, inventory(), replay())["exit_code"] == 0
        verify_release(world.target, world.signer().expectations())


def test_a_run_of_a_host_that_lacks_memory_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("executor.run.inspections.decide", fail)
    with pytest.raises(HostError, match="memory"):
        world.run(job, inventory(), replay())
    assert world.record()["exit_code"] in (30, 31)


def test_what_the_engine_does_not_answer_to_whoever_asked_to_stop_is_a_cancelled_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(engine: FakeEngine, request: object) -> str:
        world.cancel = True
        raise HostError("could not create a container: no answer")

    monkeypatch.setattr(FakeEngine, "create", fail)
    with pytest.raises(Cancelled):
        world.run(job)
    assert (world.record()["status"], world.record()["exit_code"]) == ("cancelled", 14)


@pytest.mark.parametrize("room", [-1, 0])
def test_a_run_starts_where_there_is_room_for_what_it_may_write(
    world: World, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    world.document["limits"] |= {"output_bytes": 1 << 20, "log_bytes": 1 << 10}
    monkeypatch.setattr(readiness, "free_bytes", lambda folder: (1 << 20) + (1 << 10) + (16 << 20) + room)
    if room < 0:
        with pytest.raises(UnsupportedError, match="not enough room for the state directory"):
            world.run(job, inventory(), replay())
        assert world.engine.requests == []
    else:
        assert world.run(job, inventory(), replay())["exit_code"] == 0


def test_an_artifact_that_changed_in_quarantine_is_not_released(world: World) -> None:
    def tamper(worker: Worker) -> None:
        (file,) = (world.home.runs / "run-1/quarantine").glob("0000")
        file.chmod(0o644)
        file.write_bytes(b"MODEL")
        replay()(worker)

    with pytest.raises(HostError, match="changed between"):
        world.run(job, inventory(), tamper)
    assert world.nothing_left()


def test_the_clock_of_the_context_signs(world: World) -> None:
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    world.now = lambda: start
    world.run(job, inventory(), replay())
    assert datetime.fromisoformat(world.record()["finished"]) == start
    assert verify_release(world.target, world.signer().expectations()).signed_at == start


def test_after_a_clock_that_was_ahead_nothing_is_started(world: World) -> None:
    """Its entry in the log would be later than all that is signed now: notaryproject/notation-go#513."""
    right = datetime.now(UTC)
    world.signer()
    world.now = lambda: right + timedelta(days=400)
    world.run(job, inventory(), replay())
    world.now, world.target = (lambda: right), world.target.with_name("second")
    with pytest.raises(TrustDomainError, match="clock stands before the log's last entry") as refused:
        world.run(job, inventory(), replay(), run_id="run-2")
    assert "executor trust revoke" in refused.value.hint
    assert world.engine.requests == []
