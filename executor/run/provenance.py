"""What a release says of its own making: the manifest's details and the SLSA v1 provenance. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from executor import __version__
from executor.inspection.inventory import Inventories
from executor.inspection.replay import Replays
from executor.job.plan import LaunchPlan
from executor.release.statements import Chain, parents, stamp
from executor.sandbox.engine import EngineInfo
from executor.sandbox.session import RunResult

BUILD_TYPE = "urn:sealed-executor:job:v1"


def manifest_details(
    plan: LaunchPlan,
    *,
    engine: EngineInfo,
    metrics: Mapping[str, float],
    inventories: Inventories,
    replays: Replays | None,
) -> dict[str, Any]:
    """Return the manifest's details: image, environment, models, inputs, plugins and metrics."""
    return {
        "job": {"kind": plan.kind, "name": plan.name, "seed": plan.seed, "params": dict(plan.params)},
        "plan_sha256": plan.digest,
        "policy": {"profile": plan.policy.profile.name, "sha256": plan.policy.digest},
        "image": plan.to_wire()["image"],
        "inputs": dict(plan.inputs),
        "plugins": [
            {"name": p.name, "sha256": p.sha256, "runtime": p.runtime, "operators": list(p.operators)}
            for p in plan.plugins.values()
        ],
        "code_sha256": plan.code[0] if plan.code else None,
        "engine": {"version": engine.version, "runtime": plan.job.runtime, "cgroup": engine.cgroup_version},
        "environment": {
            **inventories.environment,
            **(replays.environment if replays else {}),
            "wheels": [
                {"name": i.name, "version": i.version, "sha256": i.sha256}
                for i in plan.image.inputs
                if i.kind == "wheel"
            ],
        },
        "artifacts": dict(inventories.wire["artifacts"]),
        "replay": dict(replays.wire) if replays else None,
        "metrics_claimed": dict(metrics),
    }


def slsa_provenance(
    plan: LaunchPlan,
    *,
    run_id: str,
    result: RunResult,
    egress: Mapping[str, Any] | None,
    started: datetime,
    finished: datetime,
    chain: Chain,
) -> dict[str, Any]:
    """Return the predicate of SLSA provenance v1 (slsa.dev/spec/v1.1/provenance).

    The statements before it are named where it has places for them: the request is what the build depended on, what
    the sandbox saw and what was decided are by-products.
    """
    request, *after = parents("provenance", chain)
    wire = plan.to_wire()
    dependencies = [
        request,
        {
            "name": "image",
            "uri": f"pkg:oci/{plan.image.name}",
            "digest": {"sha256": plan.job.image_id.removeprefix("sha256:")},
        },
        {"name": "image-lock", "digest": {"sha256": plan.image.digest}},
        {"name": "policy", "digest": {"sha256": plan.policy.digest}},
        *({"name": f"input/{name}", "digest": {"sha256": digest}} for name, digest in plan.inputs.items()),
    ]
    byproducts = [*after, {"name": "usage", "annotations": result.usage.to_wire()}]
    if plan.egress is not None:
        proxy = plan.egress.image
        dependencies += [
            {
                "name": "egress-image",
                "uri": f"pkg:oci/{proxy.name}",
                "digest": {"sha256": proxy.expect.image_id.removeprefix("sha256:")},
            },
            {"name": "egress-image-lock", "digest": {"sha256": proxy.digest}},
        ]
        byproducts.append({"name": "egress", "annotations": dict(egress or {})})
    if plan.code:
        dependencies.append({"name": "code", "digest": {"sha256": plan.code[0]}})
    external = ("kind", "name", "params", "seed", "outputs", "inputs", "plugins", "code", "policy")
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {name: wire[name] for name in external} | {"image": plan.image.name},
            "internalParameters": {name: wire[name] for name in ("job", "inspection", "egress", "limits")},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {
                "id": f"urn:sealed-executor:builder:{plan.job.runtime}:network-{plan.job.network}:v1",
                "version": {"sealed-executor": __version__},
            },
            "metadata": {"invocationId": run_id, "startedOn": stamp(started), "finishedOn": stamp(finished)},
            "byproducts": byproducts,
        },
    }
