"""The journey of one job, from its file to a verified release. Each stage takes what the one before it made.

    JobSpec -> LaunchPlan -> RunResult -> collected artifacts -> Inspection -> Decision -> Approved -> Release

Everything that a stage may wait on has a limit, and whatever is raised on the way, the run folder and its containers
are gone afterwards and no half-made release has a name.
"""

import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from executor import __version__, gate
from executor.admission import admit
from executor.errors import (
    Cancelled,
    ExecutorError,
    HostError,
    ImageMismatchError,
    RequestError,
)
from executor.events import Events
from executor.exits import Exit
from executor.home import Home
from executor.inspection import Inventories, Replays, parse_inventories, parse_replays
from executor.jobspec import JobSpec, load_job
from executor.plan import LaunchPlan, plan_launch
from executor.provenance import manifest_details, slsa_provenance
from executor.record import write_record
from executor.report import Status, error_wire, result_wire, status_of
from executor.release import ReleaseContent, check_target, release, staging_path
from executor.sandbox.config import ContainerRequest, Mount, SandboxConfig
from executor.sandbox.engine import Engine, EngineInfo
from executor.sandbox.outcome import Outcome, OutcomeKind
from executor.sandbox.owner import claim_run_folder, labels_for, note_staging, sweep
from executor.sandbox.session import Listener, RunResult, Session, SessionLimits
from executor.transfer.inputs import CodeTree, InputStore, lay_out_code, locate, read_code
from executor.transfer.quarantine import Artifact, Quarantine
from images.errors import LockError
from images.lock import load_lock
from policy.decision import MODEL_FORMATS, Decision, check_replay, check_static
from policy.errors import PolicyError
from policy.load import load_policy
from signing.errors import SigningError
from signing.local import LocalTrustDomain, open_or_create

_INSPECTION_LOG_BYTES = 1 << 20
_METRICS_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job file, read and planned. Nothing has been started."""

    spec: JobSpec
    base: Path
    code: CodeTree | None
    plan: LaunchPlan


@dataclass(slots=True, kw_only=True)
class Context:
    """What a run needs of the world.

    Attributes:
        home: The state directory.
        engine: Where containers run.
        now: The clock.
        cancelled: Whether somebody asked to stop.
    """

    home: Home
    engine: Engine
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    cancelled: Callable[[], bool] = field(default=lambda: False)


def prepare(job_file: Path) -> Prepared:
    """Read a job file and its code, and plan the run.

    Raises:
        RequestError: The job is invalid.
        ImageMismatchError: It names an image that is not pinned.
        PolicyError: It names no profile, or the policy's files are malformed.
    """
    spec = load_job(job_file)
    code = read_code(job_file.parent / spec.code.path, spec.code.entry) if spec.code else None
    try:
        policy = load_policy(spec.profile)
    except PolicyError as err:
        raise RequestError(f"cannot use profile {spec.profile!r}: {err.message}", hint=err.hint) from err
    try:
        image = load_lock(spec.image)
    except LockError as err:
        raise ImageMismatchError(err.message, hint=err.hint) from err
    plan = plan_launch(spec, image=image, policy=policy, code=(code.sha256, code.entry) if code else None)
    for item in spec.inputs.values():
        locate(item.uri, job_file.parent)
    return Prepared(spec=spec, base=job_file.parent, code=code, plan=plan)


def new_run_id() -> str:
    """Return a fresh run id: time for people, randomness for uniqueness."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


class Run:
    """One run of a prepared job.

    Args:
        prepared: The job.
        run_id: From `new_run_id`.
        target: Where the release shall be.
        context: The world.
        events: Where events go.
    """

    def __init__(self, prepared: Prepared, *, run_id: str, target: Path, context: Context, events: Events) -> None:
        self._prepared = prepared
        self._plan = prepared.plan
        self._run_id = run_id
        self._target = target
        self._context = context
        self._events = events
        self._started = context.now()
        self._report: dict[str, Any] = {
            "run_id": run_id,
            "job": {"kind": self._plan.kind, "name": self._plan.name},
            "plan_sha256": self._plan.digest,
            "release": None,
            "artifacts": [],
            "findings": [],
            "metrics": {},
        }

    def execute(self) -> dict[str, Any]:
        """Run the job to its end and return the result object.

        Raises:
            RequestError: An input is not what the job names, or the target exists.
            ImageMismatchError: The engine's image is not the pinned one.
            HostError: The host or the engine failed.
            SigningError: The release or the record could not be signed.
        """
        context = self._context
        check_target(self._target)
        domain = open_or_create(context.home.trust, now=context.now())
        sweep(context.engine, context.home)
        engine = admit(context.engine, self._plan)
        self._events.emit("accepted", plan_sha256=self._plan.digest, image=self._plan.job.image_id)
        folder = claim_run_folder(context.home, self._run_id)
        log_folder = context.home.log / self._run_id
        log_folder.mkdir(mode=0o700)
        try:
            self._lay_out_inputs(folder)
            try:
                status = self._journey(folder, log_folder, engine, domain)
            except gate.DeniedError as err:
                status = self._denied(err)
            except (ExecutorError, SigningError) as err:
                self._report["error"] = error_wire(err)
                self._record(log_folder, status_of(err), domain)
                raise
            return self._finish(log_folder, status, domain)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _journey(self, folder: Path, log_folder: Path, engine: EngineInfo, domain: LocalTrustDomain) -> Status:
        result, artifacts = self._run_job(folder, log_folder)
        if result.outcome.kind is not OutcomeKind.SUCCEEDED:
            return result.outcome.kind.value, result.outcome.kind.exit
        missing = [o.name for o in self._plan.outputs if o.required and o.name not in {a.name for a in artifacts}]
        if missing:
            self._report["outcome"]["reason"] = f"the job did not send a required output: {missing[0]!r}"
            return OutcomeKind.JOB_FAILED.value, Exit.JOB_FAILED
        metrics = _metrics(result.result)
        self._report["metrics"] = metrics
        inventories, replays, decision = self._inspect(folder, artifacts)
        approved = gate.approve(decision, artifacts)
        content = ReleaseContent(
            run_id=self._run_id,
            formats={a.name: a.format for a in inventories.artifacts},
            plan=self._plan.to_wire(),
            decision=decision_wire(decision, self._plan),
            details=manifest_details(
                self._plan, engine=engine, metrics=metrics, inventories=inventories, replays=replays
            ),
            provenance=slsa_provenance(
                self._plan, run_id=self._run_id, result=result, started=self._started, finished=self._context.now()
            ),
        )
        note_staging(folder, staging_path(self._target, self._run_id))
        if self._context.cancelled():
            raise Cancelled("the run was cancelled")
        verified = release(approved, content, target=self._target, domain=domain, now=self._context.now)
        self._report["release"] = str(self._target)
        self._report["manifest_sha256"] = verified.manifest_sha256
        self._events.emit("released", path=str(self._target), manifest_sha256=verified.manifest_sha256)
        return "released", Exit.RELEASED

    def _lay_out_inputs(self, folder: Path) -> None:
        store = InputStore(self._context.home.cas)
        (folder / "in").mkdir(mode=0o755)
        for name, item in sorted(self._prepared.spec.inputs.items()):
            source = locate(item.uri, self._prepared.base)
            kept = store.take(source, sha256=item.sha256, name=name)
            (folder / "in" / name).hardlink_to(kept)
        if self._prepared.code is not None:
            (folder / "code").mkdir(mode=0o755)
            lay_out_code(self._prepared.code, folder / "code")

    def _run_job(self, folder: Path, log_folder: Path) -> tuple[RunResult, list[Artifact]]:
        plan = self._plan
        (folder / "quarantine").mkdir(mode=0o755)
        quarantine = Quarantine(
            folder / "quarantine",
            declared={o.name: o.role for o in plan.outputs},
            bytes_max=plan.output_bytes,
            files_max=plan.output_files,
        )
        mounts = [("in", folder / "in")] + ([("job", folder / "code")] if plan.code else [])
        launch = {
            "kind": plan.kind,
            "params": dict(plan.params),
            "inputs": {name: f"/in/{name}" for name in plan.inputs},
            "entry": plan.code[1] if plan.code else None,
        }
        logs = {name: (log_folder / f"{name}.log").open("ab", buffering=0) for name in ("stdout", "stderr")}

        def on_log(stream: str, data: bytes) -> None:
            logs[stream].write(data)
            self._events.emit("log", stream=stream, text=data.decode(errors="replace"))

        listener = Listener(on_progress=lambda values: self._events.emit("progress", values=dict(values)), on_log=on_log)
        self._events.emit("started")
        try:
            result = self._session(
                folder, "job", plan.job, mounts, launch, quarantine, listener, (plan.wall_seconds, plan.log_bytes)
            )
        finally:
            for file in logs.values():
                file.close()
        self._report["outcome"] = outcome_wire(result.outcome)
        self._report["usage"] = result.usage.to_wire() | {
            "log_bytes": result.log_bytes,
            "output_bytes": quarantine.bytes_received,
            "output_files": len(quarantine.artifacts),
        }
        self._report["timings"] = dict(result.seconds)
        self._report["artifacts"] = [
            {"name": a.name, "role": a.role, "size": a.size, "sha256": a.sha256} for a in quarantine.artifacts
        ]
        self._events.emit("exited", outcome=self._report["outcome"], usage=self._report["usage"])
        self._events.emit("collected", artifacts=self._report["artifacts"])
        return result, quarantine.artifacts

    def _inspect(self, folder: Path, artifacts: list[Artifact]) -> tuple[Inventories, Replays | None, Decision]:
        """Inventory first, without loading anything; replay only what passed."""
        plan, today = self._plan, self._context.now().date()
        inventories = parse_inventories(self._inspection(folder, "inventory", artifacts, {}), artifacts)
        findings = check_static(plan.policy, inventories.artifacts, today=today)
        models = {a.name: a.format for a in inventories.artifacts if a.format in MODEL_FORMATS}
        replays = None
        if not findings and models:
            vectors = next((a.name for a in artifacts if a.role == "test-vectors"), None)
            params = {"models": models, "vectors": vectors}
            replays = parse_replays(self._inspection(folder, "replay", artifacts, params), sorted(models))
            findings = check_replay(
                plan.policy, inventories.artifacts, replays.models, tolerance=replays.tolerance, today=today
            )
        decision = Decision(findings=tuple(findings), artifacts=tuple(a.name for a in artifacts))
        self._report["decision"] = decision_wire(decision, plan)
        self._report["inspection"] = {
            "inventory": dict(inventories.wire),
            "replay": dict(replays.wire) if replays else None,
        }
        self._report["findings"] = [f.to_wire() for f in findings]
        self._events.emit("decided", allowed=decision.allowed, findings=self._report["findings"])
        return inventories, replays, decision

    def _inspection(
        self, folder: Path, kind: str, artifacts: list[Artifact], params: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        plan = self._plan
        launch = {
            "kind": kind,
            "params": dict(params),
            "inputs": {a.name: f"/in/{a.path.name}" for a in artifacts},
            "entry": None,
        }
        nothing = Quarantine(folder, declared={}, bytes_max=0, files_max=0)
        limits = (plan.inspection_wall_seconds, _INSPECTION_LOG_BYTES)
        mounts = [("in", folder / "quarantine")]
        self._events.emit("inspecting", stage=kind)
        result = self._session(folder, kind, plan.inspection, mounts, launch, nothing, Listener(), limits)
        self._report["timings"][kind] = round(sum(result.seconds.values()), 4)
        if result.outcome.kind is OutcomeKind.CANCELLED:
            raise Cancelled("the run was cancelled")
        if result.outcome.kind is not OutcomeKind.SUCCEEDED:
            return _failed_inspection(kind, artifacts, params, result.outcome)
        return result.result

    def _session(
        self,
        folder: Path,
        role: str,
        config: SandboxConfig,
        mounts: list[tuple[str, Path]],
        launch: dict[str, Any],
        quarantine: Quarantine,
        listener: Listener,
        limits: tuple[float, int],
    ) -> RunResult:
        wall_seconds, log_bytes = limits
        common = {"seed": self._plan.seed, "threads": self._plan.threads, "wall_seconds_max": wall_seconds}
        request = ContainerRequest(
            name=f"sealed-executor-{self._run_id}-{role}",
            config=config,
            mounts=tuple(Mount(source=str(path), target=PurePosixPath("/") / target) for target, path in mounts),
            labels=labels_for(self._run_id, wall_seconds=wall_seconds),
        )
        session = Session(
            self._context.engine,
            request,
            folder=folder,
            limits=SessionLimits(wall_seconds=wall_seconds, log_bytes=log_bytes),
            quarantine=quarantine,
            listener=listener,
            cancelled=self._context.cancelled,
        )
        return session.run(launch | common)

    def _denied(self, denial: gate.DeniedError) -> Status:
        self._report["error"] = error_wire(denial)
        return "denied", Exit.DENIED

    def _finish(self, log_folder: Path, status: Status, domain: LocalTrustDomain) -> dict[str, Any]:
        self._record(log_folder, status, domain)
        shown = {name: value for name, value in self._report.items() if name not in ("inspection", "decision")}
        return result_wire(shown, status)

    def _record(self, log_folder: Path, status: Status, domain: LocalTrustDomain) -> None:
        now = self._context.now()
        record = {
            **self._report,
            "status": status[0],
            "exit_code": int(status[1]),
            "executor": __version__,
            "plan": self._plan.to_wire(),
            "inputs": {name: item.uri for name, item in self._prepared.spec.inputs.items()},
            "started": self._started.isoformat(),
            "finished": now.isoformat(),
        }
        path = write_record(log_folder, record, domain=domain, now=now)
        self._report["record"] = str(path)


def decision_wire(decision: Decision, plan: LaunchPlan) -> dict[str, Any]:
    """Return a decision's recorded form."""
    return {
        "schema": "executor.decision/v1",
        "allowed": decision.allowed,
        "profile": plan.policy.profile.name,
        "policy_sha256": plan.policy.digest,
        "plan_sha256": plan.digest,
        "artifacts": list(decision.artifacts),
        "findings": [f.to_wire() for f in decision.findings],
    }


def outcome_wire(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome's recorded form."""
    return {
        "kind": outcome.kind.value,
        "reason": outcome.reason,
        "limit": outcome.limit,
        "job_exit_code": outcome.job_exit_code,
        "job_signal": outcome.job_signal,
    }


def _metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the job's claimed metrics: named finite numbers, or nothing."""
    claimed = result.get("metrics")
    if not isinstance(claimed, dict) or len(claimed) > _METRICS_MAX:
        return {}
    return {
        name: float(value)
        for name, value in claimed.items()
        if len(name) <= 64 and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _failed_inspection(
    kind: str, artifacts: list[Artifact], params: Mapping[str, Any], outcome: Outcome
) -> Mapping[str, Any]:
    """An inspection that died on what it read: a denial by the artifact, unless the host was at fault.

    Raises:
        HostError: The host was.
    """
    if outcome.kind is OutcomeKind.HOST_FAULT:
        raise HostError(f"the {kind} container failed: {outcome.reason}")
    if kind == "inventory":
        finding = {"id": "INVENTORY-FAILED", "place": "file", "detail": outcome.reason[:300]}
        report = {"format": "unknown", "facts": {}, "operators": [], "findings": [finding]}
        return {"artifacts": {a.name: report for a in artifacts}}
    models = {name: {"error": outcome.reason[:300]} for name in params["models"]}
    return {"models": models, "atol": 0.0, "rtol": 0.0, "environment": {}}


