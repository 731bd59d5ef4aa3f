"""Run the plan of a release again, compare what comes out, and sign what came of it, beside the release.

The release is verified before anything is taken from it, and stays as it is. What the plan makes this time is as
untrusted as it was then: only artifacts that the policy allows are loaded to be compared.
"""

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor import __version__
from executor.admission import admit
from executor.comparison import ArtifactComparison, judge, overall, parse_reports
from executor.errors import Cancelled, HostError, JobError, RequestError
from executor.events import Events
from executor.replan import Replanned, find_inputs, replan
from executor.sandbox.outcome import Outcome, OutcomeKind
from executor.sandbox.owner import claim_run_folder
from executor.stages import Context, Stages
from executor.statements import stamp
from executor.transfer.inputs import CodeTree, InputStore, lay_out_code, load_code, read_code
from executor.transfer.quarantine import Artifact
from executor.trust import open_host_signer
from policy.decision import denies
from signing.chain import parent
from signing.encoding import sha256_hex
from signing.files import write_whole
from signing.layout import hash_file
from signing.manifest import ARTIFACTS, BUNDLE_SUFFIX, PLAN, stage_path
from signing.reproduction import reproductions_folder
from signing.statement import PREDICATE_REPRODUCTION, Statement, parse_statement
from signing.verify import Verified, read_bundle

_FOLDER_MODE, _FILE_MODE = 0o755, 0o644


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
    *,
    context: Context,
    events: Events,
    run_id: str,
    tolerance: Tolerance | None,
    inputs: Sequence[Path],
    code: Path | None,
) -> Reproduction:
    """Run a verified release's plan again and sign what came of it.

    Args:
        release: The release.
        verified: What was found to hold of it.
        context: The world.
        events: Told of progress.
        run_id: For this run.
        tolerance: How far numbers may be apart; None for what the profile allows a replay.
        inputs: Folders to look for inputs in that the store lacks.
        code: Where the job's code lies, if the store lacks it.

    Raises:
        RequestError: An input or the code is not at hand, or the profile does not allow the plan any more.
        ImageMismatchError: The image is another, or not there.
        HostError: The host or the engine failed.
        NotReproducedError: The job failed this time.
        Cancelled: Somebody asked to stop.
        SigningError: The statement could not be signed.
    """
    again = replan(_plan(release, verified))
    admitted = admit(context.engine, again.plan)
    sources = find_inputs(again.spec, context.home.cas, tuple(inputs))
    tree = _code(again, context, code)
    signer = open_host_signer(context.home, now=context.now())
    folder = claim_run_folder(context.home, run_id, wall_seconds=again.plan.longest_seconds)
    started = context.now()
    try:
        _lay_out(again, sources, tree, folder, context)
        stages = Stages(
            again.plan,
            image_id=admitted.image_id,
            proxy_image_id=admitted.proxy_image_id,
            run_id=run_id,
            folder=folder,
            context=context,
            events=events,
        )
        artifacts = _run(stages, folder)
        near = tolerance or _profile_tolerance(again)
        comparisons = _compare(release, verified, artifacts, stages, again, near)
    finally:
        if context.pool is not None:
            context.pool.close()
        shutil.rmtree(folder, ignore_errors=True)
    predicate = {
        "run_id": run_id,
        "reproduced_run_id": verified.manifest.run_id,
        "manifest_sha256": verified.manifest_sha256,
        "parents": [_release_statement(release)],
        "result": overall(comparisons),
        "tolerance": {"atol": near.atol, "rtol": near.rtol},
        "artifacts": [c.to_wire() for c in comparisons],
        "plan": {"sha256": again.plan.digest, "differs": list(again.differs)},
        "image_sha256": again.plan.job.image_id.removeprefix("sha256:"),
        "host": {"machine": platform.machine(), "processor": _processor(), "engine": admitted.engine.version},
        "executor": __version__,
        "started": stamp(started),
        "finished": stamp(context.now()),
    }
    subjects = {f.path: f.sha256 for f in verified.manifest.artifacts}
    statement = Statement(subjects=subjects, predicate_type=PREDICATE_REPRODUCTION, predicate=predicate)
    (bundle,) = signer.sign([statement], now=context.now())
    path = _write(release, run_id, bundle.to_bytes())
    return Reproduction(predicate=predicate, path=path)


def _plan(release: Path, verified: Verified) -> dict[str, Any]:
    """Read the plan that was verified, and no other that came in its place since."""
    data = (release / PLAN).read_bytes()
    if sha256_hex(data) != verified.facts.plan_sha256:
        raise HostError(f"the release changed while it was read: {release / PLAN}")
    plan: dict[str, Any] = json.loads(data)
    return plan


def _code(again: Replanned, context: Context, given: Path | None) -> CodeTree | None:
    wanted = again.plan.code
    if wanted is None:
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


def _lay_out(
    again: Replanned, sources: Mapping[str, Path], tree: CodeTree | None, folder: Path, context: Context
) -> None:
    """Lay inputs and code out as they were. What is in the store is hashed once more on the way."""
    store = InputStore(context.home.cas)
    for name in ("in", "plugins", "code"):
        (folder / name).mkdir(mode=0o755)
    for name, source in sources.items():
        kept = store.take(
            source,
            sha256=again.spec.inputs[name].sha256,
            name=name,
            bytes_max=again.plan.input_bytes,
            native=name in again.plan.plugins,
            scratch=folder,
            cancelled=context.cancelled,
        )
        (folder / "in" / name).hardlink_to(kept)
    for name, rule in again.plan.plugins.items():
        (folder / "plugins" / rule.name).hardlink_to(folder / "in" / name)
    if tree is not None:
        lay_out_code(tree, folder / "code")


def _run(stages: Stages, folder: Path) -> list[Artifact]:
    logs = folder / "logs"
    logs.mkdir(mode=0o700)
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
) -> list[ArtifactComparison]:
    released = {f.path.removeprefix(f"{ARTIFACTS}/"): f.sha256 for f in verified.manifest.artifacts}
    found = {a.name: a for a in artifacts}
    differing = [a for a in artifacts if a.name in released and a.sha256 != released[a.name]]
    judged = _judge(release, released, differing, stages, again, near) if differing else {}
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
) -> dict[str, ArtifactComparison]:
    """Load what differs, where the policy allows that, and say how far it is apart."""
    inventories, _ = stages.inventory(list(differing))
    formats = {a.name: a.format for a in inventories.artifacts}
    today = stages.today()
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
        pairs = {a.name: (_released(release, a.name, released[a.name]), a.path) for a in allowed}
        report = stages.compare(pairs, {a.name: formats[a.name] for a in allowed}, atol=near.atol, rtol=near.rtol)
        reports = parse_reports(report, [a.name for a in allowed])
        judged |= {a.name: judge(a.name, released[a.name], a.sha256, reports[a.name]) for a in allowed}
    return judged


def _released(release: Path, name: str, sha256: str) -> Path:
    """Return where a released artifact lies, after a look at whether it still is what was verified."""
    if hash_file(release / ARTIFACTS, name, size=None) != sha256:
        raise HostError(f"the release changed while it was read: {name}")
    return release / ARTIFACTS / name


def _profile_tolerance(again: Replanned) -> Tolerance:
    replay = again.plan.policy.profile.replay
    return Tolerance(atol=replay.atol_max, rtol=replay.rtol_max)


def _release_statement(release: Path) -> dict[str, Any]:
    bundle = read_bundle(release, stage_path("release"))
    return parent("release", parse_statement(bundle.payload))


def _processor() -> str:
    """Return the processor's model, which decides what its floating point comes out as."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return "unknown"


def _write(release: Path, run_id: str, data: bytes) -> Path:
    folder = reproductions_folder(release.absolute())
    try:
        folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        path = folder / f"{run_id}{BUNDLE_SUFFIX}"
        write_whole(path, data, mode=_FILE_MODE)
    except OSError as err:
        raise HostError(f"cannot write the reproduction: {folder}: {err.strerror}") from err
    return path
