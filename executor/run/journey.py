"""The journey of one job, from its file to a verified release. Each stage takes what the one before it made.

    JobSpec -> LaunchPlan -> RunResult -> collected artifacts -> Inspection -> Decision -> Approved -> Release

Everything that a stage may wait on has a limit, and whatever is raised on the way, the run folder and its containers
are gone afterwards and no half-made release has a name.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from executor import __version__
from executor.canonical import digest_of
from executor.errors import Cancelled, HostError
from executor.events import Events
from executor.exits import Exit
from executor.inspection.decision import decision_wire
from executor.job.admission import Admitted, admit
from executor.job.prepare import Prepared
from executor.recovery.sweep import is_release, recover, settle
from executor.release import gate
from executor.release.publish import check_name, check_target, release, staging_path, withdraw
from executor.release.record import write_record, write_unsigned
from executor.release.signer import open_host_signer
from executor.release.stage import ReleaseContent
from executor.release.statements import chain_of
from executor.run.containers import Context, Stages, open_run
from executor.run.inspections import Inspected, inspect
from executor.run.metrics import take_metrics
from executor.run.provenance import manifest_details, slsa_provenance
from executor.run.readiness import check_inputs, check_limits, check_room, check_writable
from executor.run.usage import limits_wire
from executor.run.workspace import keep_inputs, lay_out
from executor.sandbox.engine import EngineInfo
from executor.sandbox.outcome import Outcome, OutcomeKind
from executor.sandbox.session import RunResult
from executor.state.owner import note_staging, this_process
from executor.state.runs import Runs
from executor.status import Status, error_wire, failure_wire, host_fault, result_wire, status_of
from executor.transfer.inputs import InputStore, keep_code, locate
from executor.transfer.quarantine import Artifact
from signing.choice import mode_of
from signing.errors import SigningError
from signing.files import make_folder
from signing.manifest import ARTIFACTS, RECORD
from signing.signer import Signer
from signing.verify import Verified

_WAIT_SECONDS = 0.1


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
        key: The caller's idempotency key, or None.
        also_oms: Whether to sign the artifacts in OpenSSF's model-signing format as well.
    """

    def __init__(
        self,
        prepared: Prepared,
        *,
        run_id: str,
        target: Path,
        context: Context,
        events: Events,
        key: str | None = None,
        also_oms: bool = False,
    ) -> None:
        self._also_oms = also_oms
        self._prepared = prepared
        self._plan = prepared.plan
        self._run_id = run_id
        self._target = target
        self._context = context
        self._events = events
        self._key = key
        check_limits(prepared.plan)
        check_name(target)
        self._runs = Runs(context.home.runs_database)
        self._owner = this_process(deadline=time.time() + prepared.plan.longest_seconds)
        self._named: str | None = None  # sha256 of the manifest of the release that has, or is about to get, its name
        self._is_in_place = False
        self._is_recorded = True
        self._started = context.now()
        self._input_bytes = 0
        self._report: dict[str, Any] = {
            "run_id": run_id,
            "job": {"kind": self._plan.kind, "name": self._plan.name},
            "plan_sha256": self._plan.digest,
            "release": None,
            "artifacts": [],
            "findings": [],
            "waived": [],
            "metrics": {},
            "warnings": [],
        }

    def execute(self) -> dict[str, Any]:
        """Run the job to its end and return the result object; or the first one's, where the key stands for a run.

        Raises:
            RequestError: An input is not what the job names, the target exists, or the key is another request's.
            ImageMismatchError: The engine's image is not the pinned one.
            HostError: The host or the engine failed.
            SigningError: The release or the record could not be signed.
            Cancelled: Somebody asked to stop while another run of the same key was under way.
        """
        try:
            if (first := self._begin()) is not None:
                self._events.emit("replayed", first_run_id=first["run_id"])
                return first | {"replayed": True}
            result = self._execute()
        except BaseException as err:
            if self._named is None:  # else the release stands, and whoever settles the run will find it so
                with contextlib.suppress(HostError):
                    self._runs.end(self._run_id, self._owner, failure_wire(err))
            raise
        if not self._is_recorded:
            return result  # it stays unfinished in the state of runs, so that the next one writes its record
        try:
            self._runs.end(self._run_id, self._owner, result)
        except Exception as err:  # what was done stands; the next one puts it down
            self._warn(f"{err}; the run itself ended as reported")
            result["warnings"] = self._report["warnings"]
        return result

    def _begin(self) -> dict[str, Any] | None:
        """Claim the key; wait where another run has it; return that one's result if it has one."""
        context, waiting = self._context, False
        lost = HostError("the executor died before the run had ended", hint="run it again")
        record = self._record_wire(("lost", Exit.HOST_RETRYABLE)) | {"error": error_wire(lost)}
        while True:
            first = self._runs.begin(
                self._run_id,
                key=self._key,
                request=self._request_digest(),
                target=self._target,
                owner=self._owner,
                lost_record=record,
            )
            if first is None or first.result is not None:
                return dict(first.result) if first is not None and first.result is not None else None
            if first.abandoned:
                settle(first, self._runs, context.home, now=context.now)
                continue
            if context.cancelled():
                raise Cancelled(f"cancelled while waiting for run {first.run_id}, which has the same key")
            if not waiting:
                self._events.emit("waiting", first_run_id=first.run_id)
            waiting = True
            time.sleep(_WAIT_SECONDS)

    def _request_digest(self) -> str:
        """What a key stands for: the job with its code and inputs by digest, and where its release shall be.

        Not the plan: a retry is the same request also after an upgrade of the executor or of the policy.
        """
        job = self._prepared.spec.model_dump(mode="json", exclude={"inputs", "code"})
        named = os.path.normpath(self._target) if self._target.parent != self._context.home.releases else None
        code = list(self._plan.code) if self._plan.code else None
        return digest_of({"job": job, "inputs": dict(self._plan.inputs), "code": code, "target": named})

    def _execute(self) -> dict[str, Any]:
        with ExitStack() as opened:
            try:
                admitted, signer = self._admit()
                self._events.emit("accepted", plan_sha256=self._plan.digest, image=self._plan.job.image_id)
                run = open_run(
                    self._context,
                    self._plan,
                    run_id=self._run_id,
                    image_id=admitted.image_id,
                    proxy_image_id=admitted.proxy_image_id,
                    events=self._events,
                )
                stages = opened.enter_context(run)
                log_folder = self._context.home.log / self._run_id
                make_folder(log_folder, mode=0o700)
            except Exception as err:
                known = self._known(err)
                raise known from (err if known is not err else err.__cause__)
            try:
                status = self._run(stages, log_folder, admitted.engine, signer)
            except BaseException:
                self._take_back()  # without a record there is no release either
                raise
        return self._result_wire(status)

    def _admit(self) -> tuple[Admitted, Signer]:
        """Hold the request against this host, before anything is started."""
        context, plan = self._context, self._plan
        check_target(self._target, context.home, names=[f"{ARTIFACTS}/{o.name}" for o in plan.outputs])
        waiting = check_inputs(plan, self._sources())
        check_room(plan, context.home, self._target, input_bytes=waiting)
        if mode_of(context.home.trust) == "local":  # whose log grows with each run
            check_writable(context.home.trust)
        signer = open_host_signer(context.home, now=context.now())
        recover(context.engine, context.home, now=context.now)
        return admit(context.engine, plan), signer

    def _known(self, error: Exception) -> Exception:
        """Return what an error means here: of the host's all, and that of a call which somebody did not wait for."""
        known = host_fault(error) or error
        if isinstance(known, HostError) and self._context.cancelled():
            return Cancelled("the run was cancelled")
        return known

    def _warn(self, message: str) -> None:
        self._report["warnings"].append(message)
        self._events.emit("warning", message=message)

    def _take_back(self) -> bool:
        """Take the release's name away from it again, if it has it. Return whether no release has a name now."""
        if self._named is None:
            return True
        try:
            if is_release(self._target, self._named):
                withdraw(self._target, self._run_id)
        except FileNotFoundError:  # somebody took it away
            pass
        except OSError:
            if self._is_in_place:
                return False
        self._named = self._report["release"] = None
        self._report.pop("manifest_sha256", None)
        return True

    def _result_wire(self, status: Status) -> dict[str, Any]:
        shown = {name: value for name, value in self._report.items() if name not in ("inspection", "decision")}
        return result_wire(shown, status)

    def _run(self, stages: Stages, log_folder: Path, engine: EngineInfo, signer: Signer) -> Status:
        """Go the journey and record how it ended, however it ended."""
        try:
            self._lay_out(stages.folder)
            status = self._journey(stages, log_folder, engine, signer)
        except gate.DeniedError as err:
            self._report["error"] = error_wire(err)
            status = "denied", Exit.DENIED
        except Exception as err:  # a fault of ours as well: it leaves its record, and is reported as what it is
            known = self._known(err)
            if self._take_back():
                self._fail(known, log_folder, signer)
                raise known from (err if known is not err else err.__cause__)
            self._warn(f"the release is in place, and cannot be taken back: {known}")
            status = "released", Exit.RELEASED
        self._record(log_folder, status, signer)
        if self._named is not None:
            self._events.emit("released", path=str(self._target), manifest_sha256=self._named)
        return status

    def _fail(self, error: Exception, log_folder: Path, signer: Signer) -> None:
        """Record an error, and have it say where."""
        self._report["error"] = error_wire(error)
        vars(error).update(run_id=self._run_id, record=str(log_folder / RECORD))
        try:
            self._record(log_folder, status_of(error), signer, result=failure_wire(error))
        except SigningError:
            vars(error).update(record="")
            raise

    def _journey(self, stages: Stages, log_folder: Path, engine: EngineInfo, signer: Signer) -> Status:
        try:
            result, artifacts = stages.run_job(log_folder)
        finally:
            if stages.egress is not None:
                self._report["egress"] = stages.egress
        keep_inputs(self._plan, stages.folder, InputStore(self._context.home.cas))
        outcome = self._complete(result.outcome, artifacts)
        self._note_run(result, outcome, artifacts)
        if outcome.kind is not OutcomeKind.SUCCEEDED:
            return outcome.kind.value, outcome.kind.exit
        self._report["metrics"], left_out = take_metrics(result.result)
        for what in left_out:
            self._warn(what)
        inspected = inspect(stages, artifacts, today=self._context.now().date())
        self._note_inspection(inspected)
        approved = gate.approve(inspected.decision, artifacts)
        note_staging(stages.folder, staging_path(self._target, self._run_id))
        if self._context.cancelled():
            raise Cancelled("the run was cancelled")
        content = self._content(result, inspected, engine)
        status: Status = "released", Exit.RELEASED

        def before_naming(verified: Verified) -> None:
            self._report |= {"release": str(self._target), "manifest_sha256": verified.manifest_sha256}
            self._named = verified.manifest_sha256
            device = self._target.parent.stat().st_dev
            self._note_end(log_folder, status, release=(verified.manifest_sha256, device))

        def named() -> None:
            self._is_in_place = True

        release(
            approved,
            content,
            target=self._target,
            signer=signer,
            now=self._context.now,
            before_naming=before_naming,
            named=named,
        )
        return status

    def _complete(self, outcome: Outcome, artifacts: list[Artifact]) -> Outcome:
        """A job that succeeded without sending what it promised has failed."""
        sent = {a.name for a in artifacts}
        missing = [o.name for o in self._plan.outputs if o.required and o.name not in sent]
        if outcome.kind is not OutcomeKind.SUCCEEDED or not missing:
            return outcome
        reason = f"the job did not send a required output: {missing[0]!r}"
        return replace(outcome, kind=OutcomeKind.JOB_FAILED, reason=reason)

    def _content(self, result: RunResult, inspected: Inspected, engine: EngineInfo) -> ReleaseContent:
        plan, inventories = self._plan, inspected.inventories
        record = {**self._report, "plan": plan.to_wire()}
        chain = chain_of(record)
        return ReleaseContent(
            record=record,
            chain=chain,
            formats={a.name: a.format for a in inventories.artifacts},
            details=manifest_details(
                plan,
                engine=engine,
                metrics=self._report["metrics"],
                inventories=inventories,
                replays=inspected.replays,
            ),
            provenance=slsa_provenance(
                plan,
                run_id=self._run_id,
                result=result,
                egress=self._report.get("egress"),
                started=self._started,
                finished=self._context.now(),
                chain=chain,
            ),
            also_oms=self._also_oms,
        )

    def _sources(self) -> dict[str, Path]:
        prepared = self._prepared
        return {name: locate(item.uri, prepared.base) for name, item in prepared.spec.inputs.items()}

    def _lay_out(self, folder: Path) -> None:
        """Lay inputs and code out as the job will see them, and keep the code for a reproduction."""
        prepared = self._prepared
        self._input_bytes = lay_out(
            self._plan,
            self._sources(),
            prepared.code,
            folder,
            cancelled=self._context.cancelled,
        )
        if prepared.code is not None:
            keep_code(self._context.home.cas, prepared.code)

    def _note_run(self, result: RunResult, outcome: Outcome, artifacts: list[Artifact]) -> None:
        report = self._report
        report["outcome"] = outcome.to_wire()
        report["usage"] = result.usage.to_wire() | {
            "log_bytes": result.log_bytes,
            "output_bytes": result.output_bytes,
            "output_files": len(artifacts),
        }
        report["limits"] = limits_wire(self._prepared.spec, self._plan, result, artifacts, self._input_bytes)
        report["timings"] = dict(result.seconds)
        report["sandbox"] = {
            "warm": result.warm,
            "container_removed": result.removed,
            "host_config_sha256": result.host_config_sha256,
        }
        report["artifacts"] = [{"name": a.name, "role": a.role, "size": a.size, "sha256": a.sha256} for a in artifacts]
        self._events.emit("exited", outcome=report["outcome"], usage=report["usage"])
        self._events.emit("collected", artifacts=report["artifacts"])

    def _note_inspection(self, inspected: Inspected) -> None:
        report, decision = self._report, inspected.decision
        report["timings"] |= dict(inspected.seconds)
        report["inspection"] = {
            "inventory": dict(inspected.inventories.wire),
            "replay": dict(inspected.replays.wire) if inspected.replays else None,
        }
        report["decision"] = decision_wire(
            decision,
            policy=self._plan.policy,
            plan_sha256=self._plan.digest,
            inspection=report["inspection"],
            decided=inspected.decided,
        )
        report["findings"], report["waived"] = report["decision"]["findings"], report["decision"]["waived"]
        self._events.emit("decided", allowed=decision.allowed, findings=report["findings"], waived=report["waived"])

    def _note_end(
        self,
        log_folder: Path,
        status: Status,
        *,
        result: Mapping[str, Any] | None = None,
        release: tuple[str, int] | None = None,
    ) -> None:
        """Put down what the run is about to have come to, so that it does not depend on this process."""
        printed = self._result_wire(status) | {"record": str(log_folder / RECORD)}
        self._runs.note_end(
            self._run_id, self._owner, record=self._record_wire(status), result=result or printed, release=release
        )

    def _record(
        self, log_folder: Path, status: Status, signer: Signer, *, result: Mapping[str, Any] | None = None
    ) -> None:
        """Write and sign the record, or take the release back; one that cannot be taken back stands without.

        Raises:
            SigningError: It could not be.
            HostError: The state of runs cannot be used.
        """
        if self._named is None:
            self._note_end(log_folder, status, result=result)
        record, now = self._record_wire(status), self._context.now()
        try:
            path = write_record(log_folder, record, signer=signer, now=now)
        except (OSError, SigningError) as err:
            failure = SigningError(
                f"the run's record could not be written and signed: {log_folder}", hint=getattr(err, "hint", "")
            )
            if not self._take_back():
                self._is_recorded = False
                self._warn(f"{failure.message}: {err}; the next run on this host writes it")
                return
            self._leave_unsigned(failure, log_folder, status)
            raise failure from err
        self._report["record"] = str(path)

    def _leave_unsigned(self, failure: SigningError, log_folder: Path, status: Status) -> None:
        """Leave a record all the same: that there is neither a release nor a signature, and what there would be."""
        failure.run_id = self._run_id
        unsigned = {"status": status[0], "exit_code": int(status[1]), "error": self._report.get("error")}
        record = self._record_wire(status_of(failure)) | {"error": error_wire(failure), "unsigned": unsigned}
        with contextlib.suppress(OSError):
            failure.record = str(write_unsigned(log_folder, record))

    def _record_wire(self, status: Status) -> dict[str, Any]:
        return {
            **self._report,
            "status": status[0],
            "exit_code": int(status[1]),
            "executor": __version__,
            "plan": self._plan.to_wire(),
            "policy": self._plan.policy.to_wire(),
            "inputs": {name: item.uri for name, item in self._prepared.spec.inputs.items()},
            "started": self._started.isoformat(),
            "finished": self._context.now().isoformat(),
        }
