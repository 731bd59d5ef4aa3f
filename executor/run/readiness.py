"""What can be known of a run's inputs and of the room for what it may write, before anything is started."""

import os
import resource
from collections.abc import Mapping
from pathlib import Path

from executor.errors import RequestError, UnsupportedError, host_error
from executor.job.plan import LaunchPlan
from executor.state.home import Home
from executor.transfer.inputs import size_of
from signing.files import create, staged_path

_RECORD_BYTES = 16 << 20  # for the record, the statements and the state of runs


def check_limits(plan: LaunchPlan) -> None:
    """Hold what this process may do against what the run may make it do.

    Raises:
        UnsupportedError: RLIMIT_FSIZE is below the largest output that the job may send.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    needed = max(plan.output_file_bytes, _RECORD_BYTES)
    if most != resource.RLIM_INFINITY and most < needed:
        raise UnsupportedError(
            f"this process may write files of {most} bytes, the job may send {needed}",
            hint="raise the limit that the command has, ulimit -f, or lower limits.output_file_bytes",
        )


def check_state(home: Home) -> None:
    """See that every folder of the state directory can be written to, by doing it.

    Raises:
        HostError: One cannot be.
    """
    for folder in (home.cas, home.log, home.pool, home.releases, home.runs, home.trust):
        check_writable(folder)


def check_writable(folder: Path) -> None:
    """See that files can be made in a folder, by making one.

    Raises:
        HostError: None can be.
    """
    probe = staged_path(folder)
    try:
        create(probe, b"", mode=0o600)
        probe.unlink()
    except OSError as err:
        raise host_error(err, f"no file can be made in {folder}", hint="see its permissions and its mount") from err


def check_inputs(plan: LaunchPlan, sources: Mapping[str, Path]) -> int:
    """Hold the sizes of the inputs, as the file system has them, against the plan's limit.

    Returns:
        How many bytes they are together.

    Raises:
        RequestError: One is not there or no regular file, or all of them are larger than allowed.
    """
    total = sum(size_of(path, name) for name, path in sources.items())
    if total > plan.input_bytes:
        raise RequestError(f"the inputs are {total} bytes, limits.input_bytes is {plan.input_bytes}")
    return total


def check_room(plan: LaunchPlan, home: Home, target: Path, *, input_bytes: int) -> None:
    """Hold the free space of the file systems against the plan's limits.

    Outputs lie in the state directory until they are released, and then, where that is another file system, once more.

    Args:
        plan: Its limits count.
        home: The state directory.
        target: Where the release shall be. Its folder is there.
        input_bytes: What is to be copied of inputs.

    Raises:
        UnsupportedError: There is not enough.
        OSError: A file system does not say.
    """
    runs = home.runs
    _check(runs, input_bytes + plan.output_bytes + plan.log_bytes + _RECORD_BYTES, "the state directory")
    if target.parent.stat().st_dev != runs.stat().st_dev:
        _check(target.parent, plan.output_bytes + _RECORD_BYTES, "the release")


def free_bytes(folder: Path) -> int:
    """Return how many bytes this process can still write on a folder's file system.

    Raises:
        OSError: It does not say.
    """
    seen = os.statvfs(folder)
    return seen.f_bavail * seen.f_frsize


def _check(folder: Path, needed: int, what: str) -> None:
    free = free_bytes(folder)
    if free < needed:
        raise UnsupportedError(
            f"not enough room for {what}: {free} bytes free at {folder}, the job may take {needed}",
            hint="make room, or lower limits.output_bytes and limits.log_bytes in the job file",
        )
