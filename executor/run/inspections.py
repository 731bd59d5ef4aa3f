"""Which inspections a run makes, in which order, and what the policy makes of them."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from executor.errors import HostError
from executor.inspection.compare import Comparison, PairReport
from executor.inspection.inventory import Inventories, Inventory
from executor.inspection.replay import Replay, Replays
from executor.run.containers import Stages
from executor.transfer.quarantine import Artifact
from policy.decision import MODEL_FORMATS, Decision, decide, denies
from signing.files import make_folder
from signing.layout import hash_file

Named = tuple[Path, str]  # a file, and the sha256 in hex that it must have


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What the inspections found, and what the policy makes of it on which day."""

    inventories: Inventories
    replays: Replays | None
    decision: Decision
    decided: date
    seconds: Mapping[str, float]


def inspect(stages: Stages, artifacts: Sequence[Artifact], *, today: date) -> Inspected:
    """Inventory first, without loading anything; replay only what passed; decide on both.

    Args:
        stages: The run's containers.
        artifacts: What the job sent, in quarantine.
        today: The day by which rules have expired or not.

    Raises:
        HostError: An inspection failed through no fault of what it read.
        Cancelled: Somebody asked to stop.
    """
    policy, seconds = stages.plan.policy, dict[str, float]()
    inventories, seconds["inventory"] = take_inventory(stages, artifacts)
    hashed, plugins = [(a.name, a.sha256) for a in artifacts], inventories.plugins
    denied = denies(policy, inventories.artifacts, artifacts=hashed, today=today, plugins=plugins)
    models = {a.name: a.format for a in inventories.artifacts if a.format in MODEL_FORMATS}
    replays = None
    if not denied and models:
        vectors = next((a.name for a in artifacts if a.role == "test-vectors"), None)
        replay = Replay(models=models, vectors=vectors)
        replays, seconds["replay"] = stages.inspect(replay, _inputs(artifacts), stages.folder / "quarantine")
    decision = decide(
        policy,
        inventories.artifacts,
        replays.models if replays else None,
        tolerance=replays.tolerance if replays else (0.0, 0.0),
        artifacts=hashed,
        today=today,
        plugins=plugins,
    )
    return Inspected(inventories=inventories, replays=replays, decision=decision, decided=today, seconds=seconds)


def take_inventory(stages: Stages, artifacts: Sequence[Artifact]) -> tuple[Inventories, float]:
    """List what artifacts hold, without loading anything; return the seconds that it took, too.

    Raises:
        HostError: The inventory failed through no fault of what it read.
        Cancelled: Somebody asked to stop.
    """
    plugins = sorted({rule.name for rule in stages.plan.plugins.values()})
    inventory = Inventory(artifacts=artifacts, plugins=plugins)
    return stages.inspect(inventory, _inputs(artifacts), stages.folder / "quarantine")


def compare(
    stages: Stages, pairs: Mapping[str, tuple[Named, Named]], comparison: Comparison
) -> Mapping[str, PairReport]:
    """Have a clean container say which tensors of artifacts differ. They are loaded there: only what passed.

    Args:
        stages: The run's containers.
        pairs: By name, what it was and what it is now, each with its sha256.
        comparison: Their formats, and how far numbers may be apart.

    Raises:
        HostError: The container failed through no fault of what it read, or a file is not what its digest says.
        Cancelled: Somebody asked to stop.
    """
    folder, inputs = stages.folder / "compared", {}
    make_folder(folder, mode=0o755)
    for number, (name, pair) in enumerate(pairs.items()):
        for which, (source, sha256) in zip(("old", "new"), pair, strict=True):
            copy = folder / f"{which}-{number}"
            shutil.copyfile(source, copy)
            copy.chmod(0o444)
            if hash_file(folder, copy.name, size=None) != sha256:  # the copy: what it was may change at any time
                raise HostError(f"{name} changed while it was read: {source}")
            inputs[f"{which}/{name}"] = f"/in/{copy.name}"
    return stages.inspect(comparison, inputs, folder)[0]


def _inputs(artifacts: Sequence[Artifact]) -> dict[str, str]:
    return {a.name: f"/in/{a.path.name}" for a in artifacts}
