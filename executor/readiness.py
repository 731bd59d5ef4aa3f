"""Whether there is room for what a run may write, before anything is started."""

import os
from pathlib import Path

from executor.errors import UnsupportedError
from executor.home import Home
from executor.plan import LaunchPlan

_RECORD_BYTES = 16 << 20  # for the record, the statements and the state of runs


def check_room(plan: LaunchPlan, home: Home, target: Path) -> None:
    """Hold the free space of the file systems against the plan's limits.

    Outputs lie in the state directory until they are released, and then, where that is another file system, once more.

    Args:
        plan: Its limits count.
        home: The state directory.
        target: Where the release shall be. Its folder is there.

    Raises:
        UnsupportedError: There is not enough.
        OSError: A file system does not say.
    """
    runs = home.runs
    _check(runs, plan.output_bytes + plan.log_bytes + _RECORD_BYTES, "the state directory")
    if target.parent.stat().st_dev != runs.stat().st_dev:
        _check(target.parent, plan.output_bytes + _RECORD_BYTES, "the release")


def free_bytes(folder: Path) -> int:
    """Return how many bytes this process can still write on a folder's file system.

    Raises:
        OSError: It does not say.
    """
    seen = os.statvfs(folder)
    return (seen.f_bfree if os.geteuid() == 0 else seen.f_bavail) * seen.f_frsize


def _check(folder: Path, needed: int, what: str) -> None:
    free = free_bytes(folder)
    if free < needed:
        raise UnsupportedError(
            f"not enough room for {what}: {free} bytes free at {folder}, the job may take {needed}",
            hint="make room, or lower limits.output_bytes and limits.log_bytes in the job file",
        )
