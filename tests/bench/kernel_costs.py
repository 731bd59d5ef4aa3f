"""What the kernel objects that a job makes cost everybody else, kind by kind. By hand: `make kernel-costs`.

For each kind one job makes as many as it can in 20 processes and holds them. Beside it: what the host's memory lost
that the container was not charged for; whether a bystander (another run with a DataLoader of two workers, asyncio and a
subprocess) works; how long `ip link show` and `docker ps` take at most; and how long after its limit the job is gone.
The machine should be idle otherwise: memory that somebody else takes is counted here. Linux, cgroup v1 or v2, as root.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from executor.sandbox.docker import DockerEngine
from tests.integration.conftest import Host, raw_engine

KINDS = (
    "nothing",
    "locks",
    "leases",
    "groups",
    "socket_filters",
    "seccomp_filters",
    "inotify",
    "timers",
    "keys",
    "watches",
    "descriptors_in_flight",
    "pipes",
    "unix_buffers",
    "tcp_buffers",
    "tcp_backlogs",
    "tcp_ends",
    "eventfds",
    "mappings",
    "page_tables",
    "segments",
    "queued_signals",
    "files",
    "links",
    "descriptors",
    "names_looked_up",
    "names_looked_up_in_proc",
    "processes",
    "busy_processes",
)
_ALONE = {"processes", "busy_processes"}
_SETTLE_SECONDS = 1.25  # the job waits a little longer before it makes anything
_MAKE_SECONDS = 5.0
_HOLD_SECONDS = 2.5
_WALL_SECONDS = 18
_PAUSE_SECONDS = 0.25
LIMITS = {"memory_bytes": 2 << 30, "pids": 128, "wall_seconds": _WALL_SECONDS, "idle_seconds": _WALL_SECONDS}
GROUPS = Path("/sys/fs/cgroup")


ENDED = "the job was ended before"


@dataclass
class Row:
    """What was seen beside one kind."""

    kind: str
    made: str = ""
    uncharged: list[int] = field(default_factory=list)
    charged: int = 0
    link_seconds: float = 0.0
    list_seconds: float = 0.0
    bystander: str = ENDED
    gone_seconds: float = 0.0
    exit_code: int = -1

    def to_wire(self) -> dict[str, object]:
        """Return the row as it is printed and kept."""
        return {
            "kind": self.kind,
            "made": self.made,
            "charged_mib": round(self.charged / (1 << 20), 1),
            "uncharged_mib": round(statistics.median(self.uncharged[-6:] or [0]) / (1 << 20), 1),
            "bystander": self.bystander,
            "ip_link_seconds": round(self.link_seconds, 2),
            "docker_ps_seconds": round(self.list_seconds, 2),
            "gone_seconds": round(self.gone_seconds, 1),
            "exit_code": self.exit_code,
        }


def host_bytes() -> int:
    """Return what the host has in use beyond its file cache, in bytes."""
    rows = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    value = {row[0].rstrip(":"): int(row[1]) << 10 for row in rows}
    cache = value["Buffers"] + value["Cached"] - value["Shmem"]
    return value["MemTotal"] - value["MemFree"] - cache


def charged_bytes(container: str) -> int:
    """Return what a container is charged beyond its file cache, in bytes."""
    v1 = GROUPS / "memory" / "docker" / container
    folder = v1 if v1.is_dir() else GROUPS / "system.slice" / f"docker-{container}.scope"
    rows = (line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    stat = {row[0]: int(row[1]) for row in rows}
    if folder == v1:
        counters = ("memory.usage_in_bytes", "memory.kmem.tcp.usage_in_bytes")
        counted = sum(int((folder / name).read_text(encoding="ascii")) for name in counters)
        return counted - stat["total_cache"] + stat["total_shmem"]
    return int((folder / "memory.current").read_text(encoding="ascii")) - stat["file"] + stat["shmem"]


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall time of some work."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def watch(row: Row, stop: threading.Event) -> None:
    """Keep the longest times of `ip link show` and `docker ps`."""
    engine, command = raw_engine(), ["ip", "link", "show"]
    while not stop.wait(_PAUSE_SECONDS):
        link = seconds_of(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=300))
        row.link_seconds = max(row.link_seconds, link)
        row.list_seconds = max(row.list_seconds, seconds_of(engine.containers))


def measure(kind: str, host: Host, *, alone: bool) -> Row:
    """Run one attacker and what is beside it."""
    row, stop = Row(kind), threading.Event()
    params = {"kind": kind, "seconds": _MAKE_SECONDS, "alone": alone}
    job = host.script_job("kernel_costs", params=params, limits=LIMITS)
    command = host.command("run", str(job), "--json", "--cold")
    before = {c["Id"] for c in raw_engine().containers(all=True)}
    ended: list[float] = []

    def wait() -> None:
        attacker.wait()
        ended.append(time.monotonic())

    watcher = threading.Thread(target=watch, args=(row, stop))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as attacker:
        assert attacker.stderr is not None
        assert attacker.stdout is not None
        while "begun" not in (line := attacker.stderr.readline()):
            assert line, attacker.stdout.read()
        began = time.monotonic()
        (container,) = {c["Id"] for c in raw_engine().containers()} - before
        time.sleep(_SETTLE_SECONDS)
        used, charged = host_bytes(), charged_bytes(container)
        watcher.start()
        waiter = threading.Thread(target=wait)
        waiter.start()
        while time.monotonic() - began < _SETTLE_SECONDS + _MAKE_SECONDS + _HOLD_SECONDS:
            time.sleep(_PAUSE_SECONDS)
            try:
                now = charged_bytes(container) - charged
            except OSError:  # it was ended, though the executor may still be at it
                break
            row.charged = max(row.charged, now)
            row.uncharged.append(host_bytes() - used - now)
        else:
            row.bystander = run_bystander(host)
        said = attacker.stderr.read()
        waiter.join()
        row.exit_code = attacker.wait()
        row.gone_seconds = max(ended[0] - began - _WALL_SECONDS, 0.0)
    stop.set()
    watcher.join()
    row.made = next((line.partition("made ")[2].strip() for line in said.splitlines() if "made " in line), "")
    return row


def run_bystander(host: Host) -> str:
    """Run a job with a DataLoader of two workers, asyncio and a subprocess, and return what came of it."""
    done, _ = host.run(host.script_job("neighbour", limits={"memory_bytes": 2 << 30, "pids": 100}))
    seconds = done.json.get("usage", {}).get("wall_seconds")
    return "works" if done.code == 0 else f"exit {done.code} ({seconds} s)"


def attack_beside_bystander(kind: str, host: Host, *, alone: bool) -> str:
    """Run attackers one after another for as long as a bystander runs; return what came of the bystander.

    For a kind whose attacker is ended by its own limit before a bystander could be started.
    """
    params = {"kind": kind, "seconds": _MAKE_SECONDS, "alone": alone}
    job, over, attacks = host.script_job("kernel_costs", params=params, limits=LIMITS), threading.Event(), 0

    def attack() -> None:
        nonlocal attacks
        while not over.is_set():
            subprocess.run(host.command("run", str(job), "--json", "--cold"), capture_output=True, check=False)
            attacks += 1

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        while attacks < 1:  # so that the first one is under way, and others follow
            time.sleep(_PAUSE_SECONDS)
        before, outcome = attacks, run_bystander(host)
        return f"{outcome} beside {attacks - before + 1} attacks in a row"  # the last is under way
    finally:
        over.set()
        attacker.join()


def main() -> None:
    """Print a table, and write it as JSON where that is asked for; nothing passes or fails on a figure."""
    parser = argparse.ArgumentParser(description="What kernel objects of a job cost everybody else.")
    parser.add_argument("--only", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    info = DockerEngine().info()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        os.environ["EXECUTOR_HOME"] = str(Path(name) / "home")
        for number, kind in enumerate(args.only):
            folder = Path(name) / str(number)
            folder.mkdir()
            row = measure(kind, Host(folder), alone=kind in _ALONE)
            if row.bystander == ENDED:
                row.bystander = attack_beside_bystander(kind, Host(folder, count=1), alone=kind in _ALONE)
            rows.append(found := row.to_wire())
            print(json.dumps(found), flush=True)
    if args.out is not None:
        kernel = os.uname().release.split("-")[0]
        document = {"kernel": kernel, "engine": info.version, "cgroup": info.cgroup_version, "rows": rows}
        args.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
