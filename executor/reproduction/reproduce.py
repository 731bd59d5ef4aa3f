"""Run the plan of a release again, compare what comes out, and sign what came of it, beside the release.

The release is verified before anything is taken from it, and stays as it is. What the plan makes this time is as
untrusted as it was then: only artifacts that the policy allows are loaded to be compared.
"""

import errno
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from executor import __version__
from executor.errors import Cancelled, HostError, JobError, RequestError
from executor.events import Events
from executor.inspection.compare import Comparison
from executor.job.admission import Admitted, admit
from executor.job.plan import LaunchPlan
from executor.job.prepare import check_signer
from executor.recovery.sweep import recover
from executor.release.signer import open_host_signer
from executor.release.statements import stamp
from executor.reproduction.comparison import ArtifactComparison, judge, overall
from executor.reproduction.replan import Replanned, find_inputs, replan
from executor.run.containers import Context, Stages, open_run
from executor.run.inspections import compare, take_inventory
from executor.run.workspace import lay_out
from executor.sandbox.engine import EngineInfo
from executor.sandbox.outcome import Outcome, OutcomeKind
from executor.transfer.inputs import CodeTree, load_code, read_code
from executor.transfer.quarantine import Artifact
from policy.decision import denies
from signing.chain import reference
from signing.encoding import sha256_hex
from signing.files import make_folder, write_whole
from signing.layout import read_small
from signing.manifest import ARTIFACTS, BUNDLE_SUFFIX, FILE_MODE, FOLDER_MODE, PLAN
from signing.reproduction import reproductions_folder
from signing.signer import Signer
from signing.statement import PREDICATE_REPRODUCTION, Statement
from signing.verify import Verified


class NotReproducedError(JobError):
    """The job did not succeed this time, so that there is nothing to compare."""

    code = "E-NOT-REPRODUCED"

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"the job did not succeed this time: {outcome.kind.value}: {outcome.reason}")
        self.status = (outcome.kind.value, outcome.kind.exit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a number may be from what it was: at most `atol + rtol * |released|`."""

    atol: float
    rtol: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A tolerance as it was asked for; None for what the profile allows a replay."""

    atol: float | None = None
    rtol: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """What came of running a release's plan again.

    Attributes:
        predicate: What is signed.
        path: Where the signed statement lies.
    """

    predicate: Mapping[str, Any]
    path: Path

    @property
    def result(self) -> str:
        """`identical`, `within-tolerance` or `different`."""
        return str(self.predicate["result"])


def reproduce(
    release: Path,
    verified: Verified,
    again: Replanned,
    *,
    context: Context,
    events: Events,
    run_id: str,
    tolerance: Wanted,
    inputs: Sequence[Path],
    code: Path | None,
) -> Reproduction:
    """Run a verified release's plan again and sign what came of it.

    Args:
        release: The release.
        verified: What was found to hold of it.
        again: Its plan, made again by `plan_again`.
        context: The world.
        events: Told of progress.
        run_id: For this run.
        tolerance: How far numbers may be apart; what it does not say is what the profile allows a replay.
        inputs: Folders to look for inputs in that the store lacks.
        code: Where the job's code lies, if the store lacks it.

    Raises:
        RequestError: An input or the code is not at hand, or the profile does not let sign whoever signs here.
        ImageMismatchError: The image is not there.
        HostError: The host or the engine failed.
        NotReproducedError: The job failed this time.
        Cancelled: Somebody asked to stop.
        SigningError: The statement could not be signed.
    """
    admitted = _admit(again.plan, context)
    sources = find_inputs(again.spec, context.home.cas, tuple(inputs), cancelled=context.cancelled)
    tree = _code(again, context, code)
    signer = _make_ready(release, context)
    started, plan = context.now(), again.plan
    with open_run(
        context,
        plan,
        run_id=run_id,
        image_id=admitted.image_id,
        proxy_image_id=admitted.proxy_image_id,
        events=events,
    ) as stages:
        lay_out(plan, sources, tree, stages.folder, cancelled=context.cancelled)
        artifacts = _run(stages)
        near = _tolerance(tolerance, again)
        comparisons = _compare(release, verified, artifacts, stages, again, near, today=context.now().date())
    predicate = {
        "run_id": run_id,
        **_claims(verified, again, comparisons, near),
        "host": _host(admitted.engine),
        "executor": __version__,
        "started": stamp(started),
        "finished": stamp(context.now()),
    }
    return _publish(release, verified, predicate, signer, now=context.now())


def plan_again(release: Path, verified: Verified) -> Replanned:
    """Plan the plan again that was verified, and no other that came in its place since.

    Raises:
        RequestError: It is of another version, or its profile does not allow it any more.
        ImageMismatchError: The image that it names is another by now.
        HostError: The release changed while it was read.
    """
    data = read_small(release, PLAN)
    if sha256_hex(data) != verified.facts.plan_sha256:
        raise HostError(f"the release changed while it was read: {release / PLAN}")
    return replan(json.loads(data))


def _admit(plan: LaunchPlan, context: Context) -> Admitted:
    check_signer(plan, context.home)
    recover(context.engine, context.home, now=context.now)
    return admit(context.engine, plan)


def _make_ready(release: Path, context: Context) -> Signer:
    """See that what comes of it can be signed and written beside the release."""
    _make_folder(release)
    return open_host_signer(context.home, now=context.now())


def _code(again: Replanned, context: Context, given: Path | None) -> CodeTree | None:
    wanted = again.plan.code
    if wanted is None:
        if given is not None:
            raise RequestError(f"the job has no code of its own: {given}", hint="leave --code out")
        return None
    sha256, entry = wanted
    tree = load_code(context.home.cas, sha256, entry)
    if tree is None and given is not None:
        tree = read_code(given, entry if given.is_dir() else None)
    if tree is None:
        raise RequestError(f"the job's code is not at hand: tree digest {sha256}", hint="name it with --code")
    if tree.sha256 != sha256:
        raise RequestError(f"the code has tree digest {tree.sha256}, the release was made with {sha256}")
    return tree


def _publish(
    release: Path, verified: Verified, predicate: Mapping[str, Any], signer: Signer, *, now: datetime
) -> Reproduction:
    """Sign what came of it, and write it beside the release."""
    subjects = {f.path: f.sha256 for f in verified.manifest.artifacts}
    statement = Statement(subjects=subjects, predicate_type=PREDICATE_REPRODUCTION, predicate=predicate)
    (bundle,) = signer.sign([statement], now=now)
    return Reproduction(predicate=predicate, path=_write(release, str(predicate["run_id"]), bundle.to_bytes()))


def _claims(
    verified: Verified, again: Replanned, comparisons: Sequence[ArtifactComparison], near: Tolerance
) -> dict[str, Any]:
    """Return what is claimed of the release, and of the plan that was run again."""
    return {
        "reproduced_run_id": verified.manifest.run_id,
        "manifest_sha256": verified.manifest_sha256,
        "parents": [reference("release", verified.statement_sha256)],
        "result": overall(comparisons),
        "tolerance": {"atol": near.atol, "rtol": near.rtol},
        "artifacts": [c.to_wire() for c in comparisons],
        "plan": {"sha256": again.plan.digest, "differs": list(again.differs)},
        "image_sha256": again.plan.job.image_id.removeprefix("sha256:"),
    }


def _host(engine: EngineInfo) -> dict[str, str]:
    """Return what the plan was run on."""
    return {"machine": platform.machine(), "processor": _processor(), "engine": engine.version}


def _run(stages: Stages) -> list[Artifact]:
    logs = stages.folder / "logs"
    make_folder(logs, mode=0o700)
    result, artifacts = stages.run_job(logs)
    outcome = result.outcome
    if outcome.kind is OutcomeKind.HOST_FAULT:
        raise HostError(f"the job's container failed: {outcome.reason}")
    if outcome.kind is OutcomeKind.CANCELLED:
        raise Cancelled("the run was cancelled")
    if outcome.kind is not OutcomeKind.SUCCEEDED:
        raise NotReproducedError(outcome)
    return artifacts


def _compare(
    release: Path,
    verified: Verified,
    artifacts: Sequence[Artifact],
    stages: Stages,
    again: Replanned,
    near: Tolerance,
    *,
    today: date,
) -> list[ArtifactComparison]:
    released = {f.path.removeprefix(f"{ARTIFACTS}/"): f.sha256 for f in verified.manifest.artifacts}
    found = {a.name: a for a in artifacts}
    differing = [a for a in artifacts if a.name in released and a.sha256 != released[a.name]]
    judged = _judge(release, released, differing, stages, again, near, today=today) if differing else {}
    comparisons = []
    for name in sorted(released.keys() | found.keys()):
        if name in judged:
            comparisons.append(judged[name])
            continue
        old, new = released.get(name, ""), found[name].sha256 if name in found else ""
        why = "" if old == new else "it was not sent this time" if not new else "it was not in the release"
        verdict: Any = "identical" if old == new else "different"
        comparisons.append(ArtifactComparison(name=name, verdict=verdict, released=old, reproduced=new, why=why))
    return comparisons


def _judge(
    release: Path,
    released: Mapping[str, str],
    differing: Sequence[Artifact],
    stages: Stages,
    again: Replanned,
    near: Tolerance,
    *,
    today: date,
) -> dict[str, ArtifactComparison]:
    """Load what differs, where the policy allows that, and say how far it is apart."""
    inventories, _ = take_inventory(stages, differing)
    formats = {a.name: a.format for a in inventories.artifacts}
    refused = {
        item.name
        for item, inventory in zip(differing, inventories.artifacts, strict=True)
        if denies(
            again.plan.policy,
            (inventory,),
            artifacts=[(item.name, item.sha256)],
            today=today,
            plugins=inventories.plugins,
        )
    }
    allowed = [a for a in differing if a.name not in refused]
    judged = {
        a.name: ArtifactComparison(
            name=a.name,
            verdict="different",
            released=released[a.name],
            reproduced=a.sha256,
            why="the policy denies what came out this time",
        )
        for a in differing
        if a.name in refused
    }
    if allowed:
        pairs = {a.name: ((release / ARTIFACTS / a.name, released[a.name]), (a.path, a.sha256)) for a in allowed}
        comparison = Comparison(formats={a.name: formats[a.name] for a in allowed}, atol=near.atol, rtol=near.rtol)
        reports = compare(stages, pairs, comparison)
        judged |= {a.name: judge(a.name, released[a.name], a.sha256, reports[a.name]) for a in allowed}
    return judged


def _tolerance(wanted: Wanted, again: Replanned) -> Tolerance:
    replay = again.plan.policy.profile.replay
    return Tolerance(
        atol=replay.atol_max if wanted.atol is None else wanted.atol,
        rtol=replay.rtol_max if wanted.rtol is None else wanted.rtol,
    )


def _processor() -> str:
    """Return the processor's model, which decides what its floating point comes out as."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return "unknown"


def _make_folder(release: Path) -> Path:
    """Make the folder for reproductions: before the run, for all of it would be lost if this could not be done.

    Raises:
        HostError: It cannot be made or written to.
    """
    folder = reproductions_folder(release.absolute())
    try:
        make_folder(folder, mode=FOLDER_MODE, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as err:
        raise HostError(
            f"cannot write reproductions to {folder}: {err.strerror}", hint="copy the release to where you may write"
        ) from err
    return folder


def _write(release: Path, run_id: str, data: bytes) -> Path:
    path = _make_folder(release) / f"{run_id}{BUNDLE_SUFFIX}"
    try:
        write_whole(path, data, mode=FILE_MODE)
    except OSError as err:
        raise HostError(f"cannot write the reproduction: {path}: {err.strerror}") from err
    return path
