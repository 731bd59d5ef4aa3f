"""`executor policy inventory FILE ...`: list what files hold, in the container that a run would use for it.

Nothing is loaded here or there. What only a replay can find is not found.
"""

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from executor.cli.policy.reading import print_result, today
from executor.errors import RequestError
from executor.events import Events
from executor.exits import Exit
from executor.job.admission import admit
from executor.job.prepare import plan_job
from executor.job.spec import JobSpec
from executor.recovery.sweep import recover
from executor.run.containers import Context, open_run
from executor.run.inspections import take_inventory
from executor.run.journey import new_run_id
from executor.sandbox.docker import DockerEngine
from executor.state.home import open_home
from executor.transfer.quarantine import Artifact
from policy.decision import check_static
from policy.inspection import ArtifactInventory
from policy.model import Policy
from signing.files import make_folder

SCHEMA = "executor.policy-inventory/v1"


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Inspect the files and hold them against the profile."""
    spec = JobSpec.model_validate(
        {"apiVersion": "executor/v1", "kind": "train", "name": "inventory", "profile": args.profile}
    )
    plan = plan_job(spec)
    context = Context(home=open_home(), engine=DockerEngine())
    recover(context.engine, context.home, now=context.now)
    admitted = admit(context.engine, plan)
    run_id = new_run_id()
    with open_run(context, plan, run_id=run_id, image_id=admitted.image_id, events=Events(run_id)) as stages:
        artifacts = _take(args.files, stages.folder / "quarantine")
        make_folder(stages.folder / "plugins", mode=0o755)
        inventories, _ = take_inventory(stages, artifacts)
    described = [_with_fitting_role(inventory, plan.policy) for inventory in inventories.artifacts]
    findings = check_static(plan.policy, described, today=today())
    code = Exit.DENIED if findings else Exit.RELEASED
    document = {
        "schema": SCHEMA,
        "status": "denied" if findings else "allowed",
        "exit_code": int(code),
        "profile": plan.policy.profile.name,
        "policy_sha256": plan.policy.digest,
        "files": {
            a.name: {"sha256": a.sha256, "size": a.size, **inventories.wire["artifacts"][a.name]} for a in artifacts
        },
        "findings": [finding.to_wire() for finding in findings],
    }
    lines = [f"{a.name}: {a.format}, {sum(o.count for o in a.operators)} operators" for a in inventories.artifacts]
    lines += [f"{f.rule}: {f.artifact}: {f.place}: {f.detail}" for f in findings]
    lines.append("denied" if findings else "nothing to object to; the replay would decide")
    print_result(out, document, "\n".join(lines), as_json=args.json)
    return int(code)


def _take(files: list[Path], quarantine: Path) -> list[Artifact]:
    """Copy the files to where an inspection reads, under numbers."""
    make_folder(quarantine, mode=0o755)
    if len({path.name for path in files}) != len(files):
        raise RequestError("two of the files have one name")
    artifacts = []
    for number, path in enumerate(files):
        copy, digest, size = quarantine / str(number), hashlib.sha256(), 0
        try:
            with path.open("rb") as source, copy.open("xb") as target:
                while piece := source.read(1 << 20):
                    digest.update(piece)
                    size += target.write(piece)
        except OSError as err:
            raise RequestError(f"cannot read {path}: {err.strerror}") from err
        copy.chmod(0o444)
        artifacts.append(Artifact(name=path.name, role="data", size=size, sha256=digest.hexdigest(), path=copy))
    return artifacts


def _with_fitting_role(inventory: ArtifactInventory, policy: Policy) -> ArtifactInventory:
    """A file has no role until a job declares one: take the first that its format can have."""
    roles = next((rule.roles for rule in policy.profile.format if rule.format == inventory.format), ("data",))
    return replace(inventory, role=roles[0])
