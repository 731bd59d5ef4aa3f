"""What the kernel says of a container: what it has used, and what it is held to.

Read on the host, while the container's process 1 still lives. Cgroup v1 and v2. A file that a kernel does not have
gives None: nothing is made up.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


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


def read_seal(pid: int, *, proc: Path = Path("/proc"), root: Path = _ROOT) -> Seal | None:
    """Read what holds the container that a process is process 1 of; None where the kernel does not say all of it.

    Args:
        pid: Process 1 of the container, as the host numbers it.
        proc: The proc filesystem.
        root: Where cgroups are mounted.
    """
    paths = _cgroup_paths(pid, proc)
    if "" in paths and (root / "cgroup.controllers").exists():
        group = root / paths[""].lstrip("/")
        files = [(name, group / name) for name in _LIMITS_V2]
    else:
        group = root / "pids" / paths.get("pids", "").lstrip("/")
        files = [(name, root / part / paths.get(part, "").lstrip("/") / name) for part, name in _LIMITS_V1]
    try:
        return Seal(
            started=(proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[19],
            processes=frozenset((group / "cgroup.procs").read_text().split()),
            limits=tuple((name, path.read_text()) for name, path in files),
            interfaces=tuple(
                line.partition(":")[0].strip()
                for line in (proc / str(pid) / "net/dev").read_text().splitlines()
                if ":" in line
            ),
        )
    except (OSError, IndexError):
        return None


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
