"""What the kernel says of a container: what it has used, and what it is held to.

Read on the host, while the container's process 1 still lives. Cgroup v1 and v2. A file that a kernel does not have
gives None: nothing is made up.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_TEXT_BYTES_MAX = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Counters of one container; None where the kernel has none.

    Attributes:
        memory_peak_bytes: Highest memory use.
        oom_kills: Processes killed for memory.
        pids_peak: Highest number of processes and threads.
        pids_refused: How often a fork was refused for the limit.
        cpu_seconds: CPU time of all processes.
    """

    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    pids_peak: int | None = None
    pids_refused: int | None = None
    cpu_seconds: float | None = None

    def to_wire(self) -> dict[str, float | int | None]:
        """Return the JSON form."""
        return asdict(self)


def read_usage(pid: int, *, proc: Path = Path("/proc"), root: Path = _ROOT) -> Usage:
    """Read the counters of the container that a process belongs to.

    Args:
        pid: Process 1 of the container, as the host numbers it.
        proc: The proc filesystem.
        root: Where cgroups are mounted.
    """
    paths = _cgroup_paths(pid, proc)
    if "" in paths and (root / "cgroup.controllers").exists():
        return _read_v2(root / paths[""].lstrip("/"))
    memory = root / "memory" / paths.get("memory", "").lstrip("/")
    pids = root / "pids" / paths.get("pids", "").lstrip("/")
    cpu = root / "cpuacct" / paths.get("cpuacct", "").lstrip("/")
    if not paths.get("memory", "").strip("/"):
        return Usage()
    nanoseconds = _number(cpu / "cpuacct.usage")
    return Usage(
        memory_peak_bytes=_number(memory / "memory.max_usage_in_bytes"),
        oom_kills=_field(memory / "memory.oom_control", "oom_kill"),
        pids_peak=_number(pids / "pids.peak"),
        pids_refused=_field(pids / "pids.events", "max"),
        cpu_seconds=None if nanoseconds is None else nanoseconds / 1e9,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What holds a running container, in the kernel's words. Two that are equal hold alike.

    Attributes:
        started: When process 1 was started, in clock ticks since the boot: another process of its number differs.
        processes: Every process in the container, as the host numbers them.
        limits: Contents of the files that limit it, by name.
        interfaces: Its network interfaces.
    """

    started: str
    processes: frozenset[str]
    limits: tuple[tuple[str, str], ...]
    interfaces: tuple[str, ...]


_LIMITS_V1 = (
    ("memory", "memory.limit_in_bytes"),
    ("memory", "memory.memsw.limit_in_bytes"),
    ("pids", "pids.max"),
    ("cpu", "cpu.cfs_quota_us"),
    ("cpu", "cpu.cfs_period_us"),
    ("freezer", "freezer.state"),
    ("devices", "devices.list"),
)
_LIMITS_V2 = ("memory.max", "memory.swap.max", "pids.max", "cpu.max", "cgroup.freeze")


@dataclass(frozen=True, slots=True, kw_only=True)
class SealFiles:
    """Where the kernel says what holds a container. Found once: it does not move, and a container that does is noticed.

    Attributes:
        stat: Process 1 (proc(5)).
        devices: Its network interfaces.
        processes: All processes of its cgroup.
        limits: The files that limit it, by name.
        cpu: CPU time of all processes; empty for a process in no cgroup of its own.
        cpu_unit: How many of what `cpu` counts make a second.
    """

    stat: str
    devices: str
    processes: str
    limits: tuple[tuple[str, str], ...]
    cpu: str
    cpu_unit: float


def find_seal_files(pid: int, *, proc: Path = Path("/proc"), root: Path = _ROOT) -> SealFiles:
    """Find the files of the container that a process is process 1 of. Not all of them need exist.

    Args:
        pid: Process 1 of the container, as the host numbers it.
        proc: The proc filesystem.
        root: Where cgroups are mounted.
    """
    paths = _cgroup_paths(pid, proc)
    if "" in paths and (root / "cgroup.controllers").exists():
        group = root / paths[""].lstrip("/")
        limits = [(name, group / name) for name in _LIMITS_V2]
        own, cpu, unit = paths[""], group / "cpu.stat", 1e6
    else:
        groups = {part: root / part / paths.get(part, "").lstrip("/") for part in ("pids", "cpuacct")}
        group = groups["pids"]
        limits = [(name, root / part / paths.get(part, "").lstrip("/") / name) for part, name in _LIMITS_V1]
        own, cpu, unit = paths.get("cpuacct", ""), groups["cpuacct"] / "cpuacct.usage", 1e9
    return SealFiles(
        stat=str(proc / str(pid) / "stat"),
        devices=str(proc / str(pid) / "net/dev"),
        processes=str(group / "cgroup.procs"),
        limits=tuple((name, str(path)) for name, path in limits),
        cpu=str(cpu) if own.strip("/") else "",
        cpu_unit=unit,
    )


def read_seal(files: SealFiles) -> Seal | None:
    """Read what holds a container; None where the kernel does not say all of it."""
    try:
        return Seal(
            started=_text(files.stat).rpartition(")")[2].split()[19],
            processes=frozenset(_text(files.processes).split()),
            limits=tuple((name, _text(path)) for name, path in files.limits),
            interfaces=tuple(
                line.partition(":")[0].strip() for line in _text(files.devices).splitlines() if ":" in line
            ),
        )
    except (OSError, IndexError):
        return None


def read_cpu_seconds(files: SealFiles) -> float | None:
    """Read the CPU time of all processes of a container; None where the kernel does not count it."""
    try:
        words = _text(files.cpu).split()
        return int(words[words.index("usage_usec") + 1 if "usage_usec" in words else 0]) / files.cpu_unit
    except (OSError, ValueError, IndexError):
        return None


def _text(path: str) -> str:
    """Read a file of the kernel's, in one go and without what `open` adds: 0.02 ms rather than 0.08 (2026-11)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _TEXT_BYTES_MAX).decode(errors="replace")
    finally:
        os.close(descriptor)


def _read_v2(path: Path) -> Usage:
    microseconds = _field(path / "cpu.stat", "usage_usec")
    return Usage(
        memory_peak_bytes=_number(path / "memory.peak"),
        oom_kills=_field(path / "memory.events", "oom_kill"),
        pids_peak=_number(path / "pids.peak"),
        pids_refused=_field(path / "pids.events", "max"),
        cpu_seconds=None if microseconds is None else microseconds / 1e6,
    )


def _cgroup_paths(pid: int, proc: Path) -> dict[str, str]:
    """Parse /proc/PID/cgroup (cgroups(7)): one `id:controllers:path` a line, v2 with no controllers."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return {}
    paths = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _field(path: Path, name: str) -> int | None:
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return next((int(value) for key, value in pairs if key == name), None)
    except (OSError, ValueError):
        return None
