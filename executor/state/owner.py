"""Who owns a container or a run folder: labels that survive the executor's death, and the sweep that acts on them.

A process id alone is reused, so an owner is a boot, a pid namespace, a process and that process's start time (proc(5),
field 22). Where this process cannot see whether an owner lives (another host or container behind the same engine), only
the deadline that it set itself counts. Containers of another state directory are never touched.
"""

import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from executor.errors import HostError
from executor.sandbox.engine import Engine, OwnedContainer, OwnedNetwork
from executor.state.home import Home
from signing.files import create, make_folder, remove_folder, staged_files, staged_path
from signing.manifest import MANIFEST

LABEL_OWNER = "sealed-executor.owner"
LABEL_RUN = "sealed-executor.run"
LABEL_HOME = "sealed-executor.home"
_OWNER = "owner"
_STAGING_NOTE = "staging"
_REMOVAL_SECONDS = 5.0
_UNCLAIMED_SECONDS = 60
_OVERDUE_SECONDS = 3600  # beyond its deadline a run of an owner that cannot be seen counts as dead


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process, by all that tells it from another of the same number.

    Attributes:
        boot_id: The kernel's boot.
        namespace: Inode of its pid namespace.
        pid: Its number there.
        started: Its start time, in clock ticks since the boot.
        deadline: When its run must be over, in seconds since 1970.
    """

    boot_id: str
    namespace: int
    pid: int
    started: int
    deadline: int

    def __str__(self) -> str:
        return f"{self.boot_id}:{self.namespace}:{self.pid}:{self.started}:{self.deadline}"

    @property
    def alive(self) -> bool:
        """Whether that very process still lives, or may do so out of sight."""
        if (self.boot_id, self.namespace) == (_boot_id(), _namespace()):
            return _start_time(self.pid) == self.started
        return time.time() < self.deadline + _OVERDUE_SECONDS

    @property
    def alive_here(self) -> bool:
        """The same of the owner of something on this machine's own disk: nobody of another boot is left to own it."""
        return self.boot_id == _boot_id() and self.alive


def this_process(*, deadline: float) -> Owner:
    """Return this process as an owner."""
    pid = os.getpid()
    return Owner(
        boot_id=_boot_id(), namespace=_namespace(), pid=pid, started=_own_start_time(pid), deadline=int(deadline)
    )


def parse_owner(text: str) -> Owner | None:
    """Parse an owner label; None if it is none of ours."""
    boot_id, *numbers = text.split(":")
    if not boot_id or len(numbers) != 4 or not all(n.isdecimal() for n in numbers):
        return None
    namespace, pid, started, deadline = (int(n) for n in numbers)
    return Owner(boot_id=boot_id, namespace=namespace, pid=pid, started=started, deadline=deadline)


def labels_for(home: Home, run_id: str, *, wall_seconds: float) -> tuple[tuple[str, str], ...]:
    """Return the labels of a container of this process."""
    owner = this_process(deadline=time.time() + wall_seconds)
    return ((LABEL_OWNER, str(owner)), (LABEL_RUN, run_id), (LABEL_HOME, _home_id(home)))


def home_label(home: Home) -> str:
    """Return the label, as `name=value`, of every container that belongs to a state directory."""
    return f"{LABEL_HOME}={_home_id(home)}"


def claim_run_folder(home: Home, run_id: str, *, wall_seconds: float) -> Path:
    """Make the folder of a run, which has its owner in it from when it has its name.

    Raises:
        OSError: It cannot be made. Nothing is left of it.
    """
    folder = home.runs / run_id
    staged = staged_path(home.runs)
    try:
        make_folder(staged, mode=0o700)
        create(staged / _OWNER, str(this_process(deadline=time.time() + wall_seconds)).encode(), mode=0o600)
        staged.rename(folder)
    except BaseException:
        remove_folder(staged)
        raise
    return folder


def discard_run_folder(folder: Path) -> None:
    """Remove a run's folder. Whose it is stays written down until nothing else is left of it."""
    remove_folder(folder, last=_OWNER)


def note_staging(run_folder: Path, staging: Path) -> None:
    """Write down where a release is being staged, before it is, so that a sweep can find it."""
    create(run_folder / _STAGING_NOTE, os.fsencode(staging), mode=0o600)


def sweep(engine: Engine | None, home: Home) -> list[str]:
    """Remove what dead executors left: containers, networks, run folders and half-made releases.

    Args:
        engine: The engine, or None to leave what it has alone.
        home: The state directory.

    Returns:
        What was removed, for people and records.
    """
    removed = []
    if engine is not None:
        containers, networks = abandoned(engine, home)
        with contextlib.suppress(HostError):  # the next sweep tries again, and nobody waits for another one meanwhile
            for container in containers:
                engine.remove(container.container_id, seconds=_REMOVAL_SECONDS)
                removed.append(f"container {container.name}")
            for network in networks:  # after the containers that are on them
                engine.remove_network(network.network_id, seconds=_REMOVAL_SECONDS)
                removed.append(f"network {network.name}")
    for folder in sorted(home.runs.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # its owner, or another sweep, was faster
            if _is_abandoned(folder):
                removed += _remove_staging(folder)
                discard_run_folder(folder)
                removed.append(f"run folder {folder.name}")
            else:
                _remove_unclaimed(folder)
    return removed


def is_ours(thing: OwnedContainer | OwnedNetwork) -> bool:
    """Whether a container or network with our labels has the name that goes with them.

    Every container of an image that somebody committed from one of ours has the labels as well.
    """
    return thing.name.startswith(f"sealed-executor-{thing.labels.get(LABEL_RUN, '')}")


def abandoned(engine: Engine, home: Home) -> tuple[list[OwnedContainer], list[OwnedNetwork]]:
    """Return the containers and the networks of a state directory whose owner is dead."""
    label = home_label(home)
    containers = [c for c in engine.owned(label) if is_ours(c) and _is_owner_dead(c.labels, home)]
    return containers, [n for n in engine.owned_networks(label) if is_ours(n) and _is_owner_dead(n.labels, home)]


def hand_over(folder: Path, owner: Owner) -> None:
    """Make somebody else the owner of a run folder and of its container. Labels cannot change, so the folder counts."""
    staged = f"{folder}/{_OWNER}.new"
    with open(staged, "wb", buffering=0) as file:  # noqa: PTH123 - on the way of every warm job, where a Path costs
        os.fchmod(file.fileno(), 0o600)
        file.write(str(owner).encode())
    os.replace(staged, f"{folder}/{_OWNER}")


def _is_owner_dead(labels: Mapping[str, str], home: Home) -> bool:
    owner = _labelled_owner(labels, home)
    # Looked at twice: a folder may change hands in between.
    return owner is not None and not owner.alive and _labelled_owner(labels, home) == owner


def _labelled_owner(labels: Mapping[str, str], home: Home) -> Owner | None:
    run = labels.get(LABEL_RUN, "")
    folder = home.runs / run if run and "/" not in run else None
    return (folder and _folder_owner(folder)) or parse_owner(labels.get(LABEL_OWNER, ""))


def _is_abandoned(folder: Path) -> bool:
    """Whether a folder has an owner, of ours, that is dead. What says nothing of an owner is somebody else's."""
    if (folder / MANIFEST).exists():  # a release
        return False
    owner = _folder_owner(folder)
    return owner is not None and not owner.alive_here and _folder_owner(folder) == owner  # not handed over in between


def _remove_unclaimed(folder: Path) -> None:
    """Remove what holds nothing: a claim that was never finished, or a folder of which all but the name was removed."""
    with contextlib.suppress(OSError):  # it holds something
        if folder in staged_files(folder.parent):  # it may be claimed just now
            if time.time() - folder.stat().st_mtime < _UNCLAIMED_SECONDS:
                return
            owner = folder / _OWNER
            if owner.exists() and owner.stat().st_size == 0:
                owner.unlink()
        folder.rmdir()


def _remove_staging(run_folder: Path) -> list[str]:
    try:
        staging = Path(os.fsdecode((run_folder / _STAGING_NOTE).read_bytes()))
    except OSError:
        return []
    # The note is ours, yet it names a folder elsewhere: take nothing that does not look like a staging folder.
    if not staging.name.endswith(f".{run_folder.name}.partial") or staging.is_symlink() or not staging.is_dir():
        return []
    remove_folder(staging)
    return [f"half-made release {staging.name}"]


def _folder_owner(folder: Path) -> Owner | None:
    try:
        return parse_owner((folder / _OWNER).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


@functools.cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@functools.cache
def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _home_id(home: Home) -> str:
    return hashlib.sha256(os.fsencode(home.root.resolve())).hexdigest()[:16]


@functools.lru_cache(maxsize=4)  # by the number: a forked child is another process
def _own_start_time(pid: int) -> int:
    """Return this process's start time.

    Raises:
        OSError: It cannot be read: this process has no descriptor left, say.
    """
    started = _parse_start_time(_stat_of(pid))
    assert started is not None, "it runs"
    return started


def _start_time(pid: int) -> int | None:
    try:
        return _parse_start_time(_stat_of(pid))
    except OSError:
        return None


def _stat_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")


def _parse_start_time(text: str) -> int | None:
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])  # a zombie owns nothing any more
