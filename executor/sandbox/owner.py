"""Who owns a container: labels that survive the executor's death, and the sweep that acts on them.

A process id alone is reused, so an owner is a boot, a process and that process's start time (proc(5), field 22).
"""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from executor.errors import HostError
from executor.home import Home
from executor.sandbox.engine import Engine

LABEL_OWNER = "sealed-executor.owner"
LABEL_RUN = "sealed-executor.run"
LABEL_DEADLINE = "sealed-executor.deadline"
_STAGING_NOTE = "staging"
_UNCLAIMED_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Owner:
    """A process of this boot, by id and start time."""

    boot_id: str
    pid: int
    started: int

    def __str__(self) -> str:
        return f"{self.boot_id}:{self.pid}:{self.started}"

    @property
    def alive(self) -> bool:
        """Whether that very process still lives."""
        return self.boot_id == _boot_id() and _start_time(self.pid) == self.started


def this_process() -> Owner:
    """Return this process as an owner."""
    started = _start_time(os.getpid())
    assert started is not None, "a running process has a start time"
    return Owner(_boot_id(), os.getpid(), started)


def parse_owner(text: str) -> Owner | None:
    """Parse an owner label; None if it is none of ours."""
    boot_id, _, rest = text.partition(":")
    pid, _, started = rest.partition(":")
    if not (boot_id and pid.isdecimal() and started.isdecimal()):
        return None
    return Owner(boot_id, int(pid), int(started))


def labels_for(run_id: str, *, wall_seconds: float) -> tuple[tuple[str, str], ...]:
    """Return the labels of a container of this process."""
    deadline = str(int(time.time() + wall_seconds))
    return ((LABEL_OWNER, str(this_process())), (LABEL_RUN, run_id), (LABEL_DEADLINE, deadline))


def claim_run_folder(home: Home, run_id: str) -> Path:
    """Make the folder of a run, with its owner in it."""
    folder = home.runs / run_id
    folder.mkdir(mode=0o700)
    (folder / "owner").write_text(str(this_process()))
    return folder


def note_staging(run_folder: Path, staging: Path) -> None:
    """Write down where a release is being staged, before it is, so that a sweep can find it."""
    (run_folder / _STAGING_NOTE).write_text(str(staging))


def sweep(engine: Engine | None, home: Home) -> list[str]:
    """Remove what dead executors left: containers, run folders and half-made releases.

    Args:
        engine: The engine, or None to leave containers alone.
        home: The state directory.

    Returns:
        What was removed, for people and records.
    """
    removed = []
    for container in engine.owned(LABEL_OWNER) if engine is not None else []:
        owner = parse_owner(container.labels.get(LABEL_OWNER, ""))
        if engine is not None and owner is not None and not owner.alive:
            try:
                engine.remove(container.container_id)
            except HostError:
                continue  # the next sweep tries again
            removed.append(f"container {container.name}")
    for folder in sorted(home.runs.iterdir()):
        owner = _folder_owner(folder)
        if owner is not None and owner.alive:
            continue
        if owner is None and time.time() - folder.stat().st_mtime < _UNCLAIMED_SECONDS:
            continue  # its owner may be between making the folder and signing it
        removed += _remove_staging(folder)
        shutil.rmtree(folder, ignore_errors=True)
        removed.append(f"run folder {folder.name}")
    return removed


def _remove_staging(run_folder: Path) -> list[str]:
    try:
        staging = Path((run_folder / _STAGING_NOTE).read_text())
    except OSError:
        return []
    # The note is ours, yet it names a folder elsewhere: take nothing that does not look like a staging folder.
    if not staging.name.endswith(f".{run_folder.name}.partial") or staging.is_symlink() or not staging.is_dir():
        return []
    shutil.rmtree(staging, ignore_errors=True)
    return [f"half-made release {staging.name}"]


def _folder_owner(folder: Path) -> Owner | None:
    try:
        return parse_owner((folder / "owner").read_text())
    except OSError:
        return None


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_time(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])  # a zombie owns nothing any more
