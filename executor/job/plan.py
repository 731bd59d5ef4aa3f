"""The launch plan: everything that decides how a job runs, as values. Pure: equal inputs give equal plans.

What `executor plan` prints is the very object that `executor run` executes, and its digest is the identity of the run.
Where inputs lie is not part of it; what they are is.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from executor import __version__
from executor.canonical import digest_of
from executor.errors import RequestError
from executor.job.spec import MIB, JobSpec, Limits, OutputSpec, TrainParams
from executor.sandbox.config import SandboxConfig, Seccomp
from executor.sandbox.users import configured
from images.lock import ImageLock
from policy.load import read_filter
from policy.model import EgressRule, PluginRule, Policy

SCHEMA = "executor.plan/v1"
# Of ours and not of the job's: a job must not starve the inspection of what it sent.
_INSPECTION_LIMITS = Limits(cpus=1.0, memory_bytes=4096 * MIB, pids=128, wall_seconds=300.0, tmp_bytes=64 * MIB)
_PROXY_LIMITS = Limits(cpus=1.0, memory_bytes=512 * MIB, pids=64, tmp_bytes=16 * MIB)
_PROXY_FILTER = "egress"
_PROXY_RUNTIME = "runc"  # what it is handed is a socket of the host's, which gVisor does not take
_TRAIN_OUTPUTS = (
    OutputSpec(name="model.onnx", role="model"),
    OutputSpec(name="model.pt", role="model"),
    OutputSpec(name="test-vectors.npz", role="test-vectors"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPlan:
    """The job's way out.

    Attributes:
        image: The pinned image of the proxy.
        proxy: Its sealed container.
        rules: What it lets through.
    """

    image: ImageLock
    proxy: SandboxConfig
    rules: tuple[EgressRule, ...]

    def to_wire(self) -> dict[str, Any]:
        """Return the recorded form."""
        return {
            "image": _image_wire(self.image),
            "proxy": self.proxy.to_wire(),
            "rules": [rule.model_dump(mode="json") for rule in self.rules],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """How a job will run.

    Attributes:
        kind: The job's kind.
        name: The job's name.
        params: Its parameters, defaults filled in.
        seed: Its seed.
        outputs: What it may send.
        inputs: sha256 in hex by name.
        plugins: Which inputs are libraries of custom operators, and which of the policy's each is.
        code: Tree digest and entry of the caller's code, or None.
        image: The pinned image.
        job: The sealed container of the job.
        inspection: The sealed container of each inspection, which never has a way out.
        egress: The job's way out, or None.
        wall_seconds: Limit on the job.
        idle_seconds: Limit on how long the job may send nothing and use less than 1 % of a core.
        input_bytes: Limit on all inputs together.
        inspection_wall_seconds: Limit on each inspection.
        output_bytes: Limit on all outputs together.
        output_file_bytes: Limit on each output.
        output_files: Limit on their number.
        log_bytes: Limit on stdout and stderr together.
        policy: The effective policy.
    """

    kind: str
    name: str
    params: Mapping[str, Any]
    seed: int
    outputs: tuple[OutputSpec, ...]
    inputs: Mapping[str, str]
    plugins: Mapping[str, PluginRule]
    code: tuple[str, str] | None
    image: ImageLock
    job: SandboxConfig
    inspection: SandboxConfig
    egress: EgressPlan | None
    wall_seconds: float
    idle_seconds: float
    inspection_wall_seconds: float
    input_bytes: int
    output_bytes: int
    output_file_bytes: int
    output_files: int
    log_bytes: int
    policy: Policy

    def to_wire(self) -> dict[str, Any]:
        """Return the recorded form."""
        return {
            "schema": SCHEMA,
            "executor": __version__,
            "kind": self.kind,
            "name": self.name,
            "params": dict(self.params),
            "seed": self.seed,
            "outputs": [o.model_dump() for o in self.outputs],
            "inputs": dict(self.inputs),
            "plugins": {name: rule.name for name, rule in self.plugins.items()},
            "code": {"sha256": self.code[0], "entry": self.code[1]} if self.code else None,
            "image": _image_wire(self.image),
            "job": self.job.to_wire(),
            "inspection": self.inspection.to_wire(),
            "egress": self.egress.to_wire() if self.egress else None,
            "limits": {
                "wall_seconds": self.wall_seconds,
                "idle_seconds": self.idle_seconds,
                "inspection_wall_seconds": self.inspection_wall_seconds,
                "input_bytes": self.input_bytes,
                "output_bytes": self.output_bytes,
                "output_file_bytes": self.output_file_bytes,
                "output_files": self.output_files,
                "log_bytes": self.log_bytes,
            },
            "policy": {"profile": self.policy.profile.name, "sha256": self.policy.digest},
        }

    @property
    def digest(self) -> str:
        """sha256 of the recorded form, in hex."""
        return digest_of(self.to_wire())

    @property
    def longest_seconds(self) -> float:
        """How long the run can take at most: the job, both inspections, and an hour for everything around them."""
        return self.wall_seconds + 2 * self.inspection_wall_seconds + 3600


def plan_launch(
    spec: JobSpec,
    *,
    image: ImageLock,
    policy: Policy,
    code: tuple[str, str] | None,
    proxy_image: ImageLock | None = None,
) -> LaunchPlan:
    """Decide how a job would run, without running it.

    Args:
        spec: The parsed request. Untrusted: every field is the submitter's.
        image: The pinned image that `spec.image` names.
        policy: The effective policy of `spec.profile`.
        code: Tree digest and entry of the code as it was read, or None.
        proxy_image: The pinned image of the egress proxy, which a profile with network `allowlist` needs.

    Raises:
        RequestError: The image is not for this profile, the code is not what the job names, a plugin is none of the
            policy's, or a limit is over the profile's ceiling.
    """
    profile = policy.profile
    if image.name not in profile.images:
        raise RequestError(f"profile {profile.name!r} does not allow image {image.name!r}")
    if code is not None and spec.code is not None and spec.code.sha256 not in (None, code[0]):
        raise RequestError(f"code has tree digest {code[0]}, the job names {spec.code.sha256}")
    _check_ceilings(spec, policy)
    limits = spec.limits
    return LaunchPlan(
        kind=spec.kind,
        name=spec.name,
        params=TrainParams.model_validate(spec.params).model_dump() if spec.kind == "train" else spec.params,
        seed=spec.seed,
        outputs=_TRAIN_OUTPUTS if spec.kind == "train" else spec.outputs,
        inputs={name: spec.inputs[name].sha256 for name in sorted(spec.inputs)},
        plugins={name: _plugin(name, spec.inputs[name].sha256, policy) for name in sorted(spec.plugins)},
        code=code,
        image=image,
        job=_sandbox(image, policy, limits, devices=spec.gpus, network=profile.network),
        inspection=_sandbox(image, policy, _INSPECTION_LIMITS, devices=(), network="none"),
        egress=_egress(proxy_image, policy),
        wall_seconds=limits.wall_seconds,
        idle_seconds=limits.idle_seconds,
        input_bytes=limits.input_bytes,
        inspection_wall_seconds=_INSPECTION_LIMITS.wall_seconds,
        output_bytes=limits.output_bytes,
        output_file_bytes=limits.output_file_bytes,
        output_files=limits.output_files,
        log_bytes=limits.log_bytes,
        policy=policy,
    )


def _plugin(name: str, sha256: str, policy: Policy) -> PluginRule:
    for rule in policy.plugins.values():
        if rule.sha256 == sha256:
            return rule
    listed = ", ".join(f"{p.name} {p.sha256[:12]}" for p in policy.plugins.values()) or "none"
    raise RequestError(
        f"input {name!r} is no plugin of profile {policy.profile.name!r}: sha256 {sha256}",
        hint=f"a library is allowed by its digest alone; the profile lists: {listed}",
    )


def _image_wire(image: ImageLock) -> dict[str, str]:
    return {
        "name": image.name,
        "id": image.expect.image_id,
        "manifest": image.expect.manifest,
        "lock_sha256": image.digest,
    }


def _egress(image: ImageLock | None, policy: Policy) -> EgressPlan | None:
    if policy.profile.network == "none":
        return None
    assert image is not None, "whoever plans for a network brings the proxy's image"
    text = read_filter(_PROXY_FILTER)
    seccomp = Seccomp(name=_PROXY_FILTER, text=text, sha256=hashlib.sha256(text.encode()).hexdigest())
    proxy = _sandbox(image, policy, _PROXY_LIMITS, devices=(), network="egress")
    proxy = replace(proxy, runtime=_PROXY_RUNTIME, seccomp=seccomp)
    return EgressPlan(image=image, proxy=proxy, rules=policy.profile.egress)


def _sandbox(
    image: ImageLock, policy: Policy, limits: Limits, *, devices: tuple[str, ...], network: str
) -> SandboxConfig:
    profile = policy.profile
    return SandboxConfig(
        image_id=image.expect.image_id,
        runtime=profile.runtime,
        network=network,
        cpus=limits.cpus,
        memory_bytes=limits.memory_bytes,
        pids=limits.pids,
        tmp_bytes=limits.tmp_bytes,
        tmp_inodes=limits.tmp_inodes,
        devices=devices,
        seccomp=Seccomp(name=profile.seccomp, text=policy.seccomp_text, sha256=policy.seccomp_sha256),
        users=configured(),
    )


def _check_ceilings(spec: JobSpec, policy: Policy) -> None:
    asked, ceilings = spec.limits.model_dump(), policy.profile.ceilings.model_dump()
    for name, ceiling in ceilings.items():
        if asked[name] > ceiling:
            raise RequestError(
                f"limits.{name} is {asked[name]:g}, profile {policy.profile.name!r} allows {ceiling:g}",
                hint="ask for less, or for another profile",
            )
