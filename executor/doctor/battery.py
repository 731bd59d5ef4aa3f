"""Run attempts, each as a job of its own in the sandbox that every job gets."""

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from executor.doctor.attempts import ATTEMPTS, Attempt
from executor.errors import ExecutorError
from executor.events import Events
from executor.job.plan import LaunchPlan
from executor.job.prepare import plan_job
from executor.job.spec import JobSpec
from executor.run.containers import Context, open_run
from executor.sandbox.outcome import OutcomeKind
from executor.sandbox.session import RunResult
from signing.files import create, make_folder

_MIB = 1 << 20
_LIMITS = {
    "cpus": 1.0,
    "memory_bytes": 512 * _MIB,
    "tmp_bytes": 32 * _MIB,
    "pids": 100,
    "wall_seconds": 300.0,  # an attempt takes seconds, some of them to import torch; a machine may be slow and busy
    "idle_seconds": 120.0,
    "log_bytes": _MIB,
    "output_bytes": 8 * _MIB,
    "output_file_bytes": 8 * _MIB,
}


def plan_attempt(attempt: Attempt, *, profile: str = "standard", way_out: bool = False) -> LaunchPlan:
    """Plan an attempt as the job that it is.

    Args:
        attempt: The attempt.
        profile: The profile that it runs under.
        way_out: Leave the plan the way out that the profile has. It leads nowhere: attempts do not try it.
    """
    spec = JobSpec.model_validate(
        {
            "apiVersion": "executor/v1",
            "kind": "script",
            "name": "attempt",
            "code": {"path": "main.py"},
            "outputs": [{"name": "out.txt", "required": False}],
            "limits": _LIMITS | dict(attempt.limits),
            "profile": profile,
        }
    )
    plan = plan_job(spec, code=("0" * 64, "main.py"))
    return plan if way_out else replace(plan, egress=None)


def run_attempt(attempt: Attempt, plan: LaunchPlan, *, image_id: str, context: Context) -> tuple[RunResult, str]:
    """Run an attempt in a container.

    Returns:
        How it ended, and what it sent if it got through; the empty string if not.

    Raises:
        HostError: The engine failed.
    """
    run_id = f"attempt-{secrets.token_hex(6)}"
    with open_run(context, plan, run_id=run_id, image_id=image_id, events=Events(run_id)) as stages:
        for name in ("in", "code", "log"):
            make_folder(stages.folder / name, mode=0o755)
        create(stages.folder / "code/main.py", attempt.script.encode(), mode=0o444)
        result, artifacts = stages.run_job(stages.folder / "log")
        if result.outcome.kind is not OutcomeKind.SUCCEEDED:
            return result, ""
        if not artifacts:
            return result, "got through without a word"
        return result, artifacts[0].path.read_text(encoding="utf-8", errors="replace")


def judge(attempt: Attempt, result: RunResult, sent: str) -> str | None:
    """Return what is wrong with how an attempt ended, or None: it must fail, and for its reason."""
    if sent:
        return f"it got through: {sent[:100]}"
    if not any(reason in result.outcome.reason for reason in attempt.reasons):
        return f"it failed for another reason: {result.outcome.reason[:200]}"
    return None


def run_battery(
    context: Context, *, image_id: str, profile: str, at_once: int, say: Callable[[str], None]
) -> Iterator[tuple[Attempt, str | None]]:
    """Run every attempt, a few at a time, and yield each with what is wrong with how it ended.

    Args:
        context: The world.
        image_id: Under which digest the engine has the image.
        profile: Whose sandbox to try.
        at_once: How many containers at once.
        say: Told of each attempt as it ends, in the order of the battery.
    """

    def one(attempt: Attempt) -> str | None:
        plan = plan_attempt(attempt, profile=profile)
        try:
            return judge(attempt, *run_attempt(attempt, plan, image_id=image_id, context=context))
        except ExecutorError as err:
            return f"it could not be tried: {err.message}"

    with ThreadPoolExecutor(at_once) as workers:
        for attempt, wrong in zip(ATTEMPTS, workers.map(one, ATTEMPTS), strict=True):
            say(f"{attempt.family}: {attempt.name}: {wrong or 'held'}")
            yield attempt, wrong
