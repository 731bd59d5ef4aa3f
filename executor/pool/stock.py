"""The slots that wait: by class, oldest first, and checked once more before one is given away.

A slot that waited is only as good as one that is made now if nobody has touched it meanwhile. So its folders must be
empty, its channels silent, and what the kernel holds it to must be what it was when it was ready: the same processes,
limits and interfaces. And it must have used no CPU time: a container that only waits uses none, and nothing can run in
it without.

The kernel is asked because it answers in a fraction of a millisecond and cannot be mistaken. What the engine says is
looked at on patrol, every few seconds, and at once where the kernel does not say everything.
"""

import os
import select
import time
from collections import deque
from dataclasses import dataclass, field

from executor.errors import HostError
from executor.sandbox.cgroup import Seal, SealFiles, find_seal_files, read_cpu_seconds, read_seal
from executor.sandbox.config import MOUNTS, SandboxConfig, host_config_digest
from executor.sandbox.engine import Engine
from executor.sandbox.slot import Slot

# Seen 2026-11 with runc: 0 in an hour. gVisor's own threads, which the container is charged for, use 0.2 % of a core.
_IDLE_CPU_SECONDS_MAX = 0.005
_IDLE_CPU_SHARE_MAX = {"runsc": 0.01}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolClass:
    """Slots that can stand for one another.

    Attributes:
        kind: The kind of job that they are ready for.
        config: The configuration that they are sealed under.
        size: How many shall wait.
    """

    kind: str
    config: SandboxConfig
    size: int

    @property
    def key(self) -> tuple[str, str]:
        """What a caller must ask for to get one."""
        return self.kind, self.config.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A slot that waits.

    Attributes:
        slot: The slot.
        since: When it became ready, on the monotonic clock.
        files: Where the kernel says what it uses and is held to.
        cpu_seconds: What it had used by then, or None where the kernel does not say.
        seal: What it was held to by then, or None.
    """

    slot: Slot
    since: float
    files: SealFiles
    cpu_seconds: float | None
    seal: Seal | None


@dataclass(slots=True, kw_only=True)
class Shelf:
    """The slots of one class.

    Attributes:
        pool_class: What stands on it.
        waiting: Ready, oldest first.
        starting: How many are being started.
        failures: Starts that failed one after another.
        retry_at: When the next start may be tried.
        error: What the last failed start said.
    """

    pool_class: PoolClass
    waiting: deque[Waiting] = field(default_factory=deque)
    starting: int = 0
    failures: int = 0
    retry_at: float = 0.0
    error: str = ""

    @property
    def lacks(self) -> int:
        """How many more should be started."""
        return self.pool_class.size - len(self.waiting) - self.starting


def put_by(slot: Slot) -> Waiting:
    """Note what a slot has used, and what it is held to, when it becomes ready."""
    files = find_seal_files(slot.pid)
    used, seal = read_cpu_seconds(files), read_seal(files)
    return Waiting(slot=slot, since=time.monotonic(), files=files, cpu_seconds=used, seal=seal)


def find_fault(engine: Engine, waiting: Waiting, *, lease_seconds: float, ask_engine: bool) -> str | None:
    """Return why a slot must not be given away any more, or None.

    Args:
        engine: Where it runs.
        waiting: The slot.
        lease_seconds: How long it may wait.
        ask_engine: Whether to ask the engine as well. It is asked in any case where the kernel does not say everything.
    """
    slot = waiting.slot
    idle = time.monotonic() - waiting.since
    if idle > lease_seconds:
        return "lease"
    try:
        if any(_holds_something(slot, name) for name, _ in MOUNTS):
            return "files"
    except OSError:
        return "files"
    poll = select.poll()
    for stream in slot.channels.values():
        poll.register(stream, select.POLLIN | select.POLLRDHUP)
    if poll.poll(0):
        return "channels"
    if fault := _seal_fault(waiting) or _cpu_fault(waiting, idle):
        return fault
    return _engine_fault(engine, slot) if ask_engine or waiting.seal is None else None


def _engine_fault(engine: Engine, slot: Slot) -> str | None:
    """Return why a slot must not be given away as far as the engine knows, or None."""
    try:
        state = engine.state(slot.container)
    except HostError:
        return "engine"
    if not state.running or (state.pid, state.started) != (slot.pid, slot.started):
        return "state"
    if state.visitors:
        return "visitors"
    if state.networks - {"none"} or state.image_id != slot.request.config.image_id:
        return "configuration"
    if host_config_digest(state.host_config, slot.folder) != slot.host_config_sha256:
        return "configuration"
    return None


def _seal_fault(waiting: Waiting) -> str | None:
    then, now = waiting.seal, read_seal(waiting.files)
    if then is None:
        return None
    if now is None or now.started != then.started:
        return "state"
    if now.limits != then.limits:
        return "limits"
    if now.interfaces != then.interfaces:
        return "interfaces"
    # gVisor's own processes come and go; what runs in it the host's kernel does not see.
    if now.processes != then.processes and waiting.slot.request.config.runtime != "runsc":
        return "processes"
    return None


def _holds_something(slot: Slot, name: str) -> bool:
    with os.scandir(slot.folder / name) as entries:
        return next(entries, None) is not None


def _cpu_fault(waiting: Waiting, idle: float) -> str | None:
    used = read_cpu_seconds(waiting.files)
    if waiting.cpu_seconds is None:
        return None if used is None else "cpu"  # a kernel that counts has counted from the start
    share = _IDLE_CPU_SHARE_MAX.get(waiting.slot.request.config.runtime, 0.0)
    if used is None or used - waiting.cpu_seconds > _IDLE_CPU_SECONDS_MAX + share * idle:
        return "cpu"
    return None
