"""What a run's limits were: asked for by the job, allowed by the profile, and used, as far as that was seen. Pure."""

from collections.abc import Sequence

from executor.job.plan import LaunchPlan
from executor.job.spec import JobSpec
from executor.sandbox.session import TCP_SOCKETS_MAX, RunResult, cpu_seconds_backstop
from executor.transfer.quarantine import Artifact


def limits_wire(
    spec: JobSpec, plan: LaunchPlan, result: RunResult, artifacts: Sequence[Artifact], input_bytes: int
) -> dict[str, dict[str, float | int | None]]:
    """Return, by the name of each limit, what was `asked`, `allowed` and `used`; None for what nobody could see.

    Three are no fields of the job file. `cpu_seconds` follows from `cpus` and `wall_seconds`, and is a backstop.
    `host_cpu_seconds` is what taking in the job's messages and outputs cost this process.
    `tcp_sockets` is the most that were seen at once, four times a second.
    """
    usage, run_seconds = result.usage, result.seconds.get("run")
    cores = None
    if usage.cpu_seconds is not None and run_seconds:
        cores = round(usage.cpu_seconds / run_seconds, 3)
    used: dict[str, float | int | None] = {
        "cpus": cores,
        "memory_bytes": usage.memory_peak_bytes,
        "pids": usage.pids_peak,
        "wall_seconds": run_seconds,
        "idle_seconds": result.idle_seconds,
        "input_bytes": input_bytes,
        "output_bytes": result.output_bytes,
        "output_file_bytes": max((a.size for a in artifacts), default=0),
        "output_files": len(artifacts),
        "log_bytes": result.log_bytes,
        "tmp_bytes": result.tmp_bytes,
        "tmp_inodes": result.tmp_inodes,
    }
    asked, allowed = spec.limits.model_dump(), plan.policy.profile.ceilings.model_dump()
    report = {name: {"asked": asked[name], "allowed": allowed[name], "used": used[name]} for name in asked}
    backstop = cpu_seconds_backstop(plan.job.cpus, plan.wall_seconds)
    return report | {
        "cpu_seconds": {"asked": None, "allowed": backstop, "used": usage.cpu_seconds},
        "host_cpu_seconds": {"asked": None, "allowed": result.host_cpu_seconds_max, "used": result.host_cpu_seconds},
        "tcp_sockets": {"asked": None, "allowed": TCP_SOCKETS_MAX, "used": result.tcp_sockets},
    }
