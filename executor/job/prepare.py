"""A job file, read and planned: everything that is known of a run before anything starts."""

from dataclasses import dataclass
from pathlib import Path

from executor.errors import ImageMismatchError, RequestError
from executor.job.plan import LaunchPlan, plan_launch
from executor.job.spec import JobSpec, load_job
from executor.state.home import Home
from executor.transfer.inputs import CodeTree, locate, outside_of, read_code
from images.errors import LockError
from images.lock import load_lock
from policy.errors import PolicyError
from policy.load import load_policy
from signing.choice import mode_of

PROXY_IMAGE = "egress"
_SIGNERS = {"local": "the local trust domain", "keyless": "Sigstore's services", "key": "a bare key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job file, read and planned. Nothing has been started."""

    spec: JobSpec
    base: Path
    code: CodeTree | None
    plan: LaunchPlan


def prepare(job_file: Path, *, home: Home) -> Prepared:
    """Read a job file and its code, and plan the run.

    Args:
        job_file: YAML or JSON.
        home: The state directory, of which nothing may become an input.

    Raises:
        RequestError: The job is invalid.
        ImageMismatchError: It names an image that is not pinned.
    """
    spec = load_job(job_file)
    code = None
    if spec.code:
        code = read_code(outside_of(job_file.parent / spec.code.path, home.root, what="code"), spec.code.entry)
    plan = plan_job(spec, code=(code.sha256, code.entry) if code else None)
    check_signer(plan, home)
    for name, item in spec.inputs.items():
        outside_of(locate(item.uri, job_file.parent), home.root, what=f"input {name!r}")
    return Prepared(spec=spec, base=job_file.parent, code=code, plan=plan)


def plan_job(spec: JobSpec, *, code: tuple[str, str] | None = None) -> LaunchPlan:
    """Plan a parsed job, under the profile and with the image that it names.

    Raises:
        RequestError: The profile cannot be used, or does not allow what the job asks for.
        ImageMismatchError: The image is not pinned.
    """
    try:
        policy = load_policy(spec.profile)
    except PolicyError as err:
        raise RequestError(f"cannot use profile {spec.profile!r}: {err.message}", hint=err.hint) from err
    try:
        image = load_lock(spec.image)
        proxy_image = load_lock(PROXY_IMAGE) if policy.profile.network == "allowlist" else None
    except LockError as err:
        raise ImageMismatchError(err.message, hint=err.hint) from err
    return plan_launch(spec, image=image, policy=policy, code=code, proxy_image=proxy_image)


def check_signer(plan: LaunchPlan, home: Home) -> None:
    """Check that the profile lets sign whoever signs on this host.

    Raises:
        RequestError: It does not.
    """
    mode, profile = mode_of(home.root / "trust"), plan.policy.profile
    if mode not in profile.signers:
        raise RequestError(
            f"profile {profile.name!r} does not let {_SIGNERS[mode]} sign",
            hint=f"it wants one of: {', '.join(profile.signers)}; see `executor trust init`",
        )
