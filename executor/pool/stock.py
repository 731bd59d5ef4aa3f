"""The slots that wait: by class, oldest first, and checked once more before one is given away.

A slot that waited is only as good as one that is made now if nobody has touched it meanwhile. So its folders must be
empty, its channels silent, and what the kernel holds it to must be what it was when it was ready: the same processes,
limits and interfaces. And it must have used no CPU time since the last look: a container that only waits uses none, on
any machine, and nothing can run in it without. What counts as none is measured against the container's own start.

The kernel is asked because it answers in a fraction of a millisecond and cannot be mistaken. What the engine says is
looked at on patrol, every few seconds, and at once where the kernel does not say everything.
"""

import os
import select
import time
from collections import deque
from dataclasses import dataclass, field

from executor.errors import HostError
from executor.sandbox.cgroup import (
    Seal,
    SealFiles,
    UsageFiles,
    find_seal_files,
    find_usage_files,
    is_asleep,
    read_cpu_seconds,
    read_process_1_seconds,
    read_seal,
)
from executor.sandbox.config import MOUNTS, SandboxConfig, host_config_digest
from executor.sandbox.engine import Engine
from executor.sandbox.slot import Slot

# Of the CPU time that process 1 took to start, which the machine's speed is in. A container that waits uses nothing
# (runc, 2026-11: no thread ran in ten seconds, no CPU time in an hour); a program in it is an interpreter that starts,
# and takes a sixth at the least.
_WAKING_SHARE = 1 / 16
_WAKING_SECONDS = 0.005  # where process 1 cannot be told apart
# gVisor's own threads, which the container is charged for, use 0.2 % of a core (2026-11).
_GVISOR_SHARE = 0.02
_SETTLE_SECONDS_MAX = 10.0  # for the last thread to fall asleep after the container has said that it is ready
_SETTLE_STEP_SECONDS = 0.005


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


@dataclass(slots=True, kw_only=True, eq=False)
class Waiting:
    """A slot that waits.

    Attributes:
        slot: The slot.
        since: When it became ready, on the monotonic clock.
        files: Where the kernel says what it is held to; None where this process cannot see that.
        usage_files: Where the kernel says what it uses; None likewise.
        waking_seconds: CPU time that waking alone may take between two looks.
        looked_at: When its CPU time was last read, on the monotonic clock.
        cpu_seconds: CPU time that it had used by then, or None where the kernel does not say.
        seal: What it was held to when it became ready, or None.
    """

    slot: Slot
    since: float
    files: SealFiles | None
    usage_files: UsageFiles | None
    waking_seconds: float
    looked_at: float
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


def record_ready(slot: Slot) -> Waiting:
    """Record what a slot has used, and what it is held to, once all its threads wait."""
    files = find_seal_files(slot.pid, container=slot.container)
    usage_files = find_usage_files(slot.pid, container=slot.container)
    if files is not None and not _has_guest_kernel(slot):
        _wait_until_asleep(files)
    now = time.monotonic()
    return Waiting(
        slot=slot,
        since=now,
        files=files,
        usage_files=usage_files,
        waking_seconds=_waking_seconds(slot, usage_files),
        looked_at=now,
        cpu_seconds=read_cpu_seconds(usage_files) if usage_files else None,
        seal=read_seal(files) if files else None,
    )


def _has_guest_kernel(slot: Slot) -> bool:
    """Whether the host's kernel sees nothing of the container's processes but the sandbox around them."""
    return slot.request.config.runtime == "runsc"


def _wait_until_asleep(files: SealFiles) -> None:
    """Wait for the container's threads: one that has said its last word may still be on its way to sleep."""
    patience = time.monotonic() + _SETTLE_SECONDS_MAX
    while not is_asleep(files) and time.monotonic() < patience:
        time.sleep(_SETTLE_STEP_SECONDS)


def _waking_seconds(slot: Slot, files: UsageFiles | None) -> float:
    start = read_process_1_seconds(files) if files and not _has_guest_kernel(slot) else None
    return start * _WAKING_SHARE if start else _WAKING_SECONDS


def find_fault(engine: Engine, waiting: Waiting, *, lease_seconds: float, ask_engine: bool) -> str | None:
    """Return why a slot must not be given away any more, or None.

    Args:
        engine: Where it runs.
        waiting: The slot.
        lease_seconds: How long it may wait.
        ask_engine: Whether to ask the engine as well. It is asked in any case where the kernel does not say everything.
    """
    slot = waiting.slot
    if time.monotonic() - waiting.since > lease_seconds:
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
    if fault := _seal_fault(waiting) or _cpu_fault(waiting):
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
    then = waiting.seal
    if then is None or waiting.files is None:
        return None
    now = read_seal(waiting.files)
    if now is None or now.started != then.started:
        return "state"
    if now.limits != then.limits:
        return "limits"
    if now.interfaces != then.interfaces:
        return "interfaces"
    # gVisor's own processes come and go; what runs in it the host's kernel does not see.
    if now.processes != then.processes and not _has_guest_kernel(waiting.slot):
        return "processes"
    return None


def _holds_something(slot: Slot, name: str) -> bool:
    with os.scandir(slot.folder / name) as entries:
        return next(entries, None) is not None


def _cpu_fault(waiting: Waiting) -> str | None:
    """Return a fault where something ran since the last look; record this one where nothing did."""
    now = time.monotonic()
    used = read_cpu_seconds(waiting.usage_files) if waiting.usage_files else None
    if waiting.cpu_seconds is None:
        return None if used is None else "cpu"  # a kernel that counts has counted from the start
    share = _GVISOR_SHARE if _has_guest_kernel(waiting.slot) else 0.0
    if used is None or used - waiting.cpu_seconds > waiting.waking_seconds + share * (now - waiting.looked_at):
        return "cpu"
    waiting.looked_at, waiting.cpu_seconds = now, used
    return None
