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
# and takes a quarter at the least.
_WAKING_SHARE = 1 / 16
_WAKING_SECONDS = 0.005  # where process 1 cannot be told apart
_WAKING_SECONDS_MAX = 0.02
# gVisor's own threads never rest, and the container is charged for them: 0.2 % of a core (2026-11). How much it is on
# this machine is measured when a container is ready.
_GVISOR_SHARE_TIMES = 4
_GVISOR_SHARE_MIN, _GVISOR_SHARE_MAX = 0.005, 0.02
_GVISOR_SECONDS = 1.0
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
        usage_files: Where the kernel says what it uses; None likewise, and then the engine is asked.
        seal: What it was held to when it became ready, or None.
        cpu_seconds: CPU time that it had used when it became ready, or None where nobody counts.
        waking_seconds: CPU time that waking alone may take.
        share: What share of a core its own threads may use beside; 0 but for gVisor.
        looked_at: Of a container with such threads, when it was last seen to have used no more than that.
    """

    slot: Slot
    since: float
    files: SealFiles | None
    usage_files: UsageFiles | None
    seal: Seal | None
    cpu_seconds: float | None
    waking_seconds: float
    share: float
    looked_at: float


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


def record_ready(engine: Engine, slot: Slot) -> Waiting:
    """Record what a slot has used, and what it is held to, once all its threads wait."""
    files = find_seal_files(slot.pid, container=slot.container)
    usage_files = find_usage_files(slot.pid, container=slot.container)
    guest_kernel, share = slot.request.config.has_guest_kernel, 0.0
    if guest_kernel:
        share = _guest_share(engine, slot, usage_files)
    elif files is not None:
        _wait_until_asleep(files)
    now = time.monotonic()
    return Waiting(
        slot=slot,
        since=now,
        files=files,
        usage_files=usage_files,
        seal=read_seal(files) if files else None,
        cpu_seconds=_cpu_seconds(engine, slot, usage_files),
        waking_seconds=_waking_seconds(None if guest_kernel else usage_files),
        share=share,
        looked_at=now,
    )


def _wait_until_asleep(files: SealFiles) -> None:
    """Wait for the container's threads: one that has said its last word may still be on its way to sleep."""
    patience = time.monotonic() + _SETTLE_SECONDS_MAX
    while not is_asleep(files) and time.monotonic() < patience:
        time.sleep(_SETTLE_STEP_SECONDS)


def _cpu_seconds(engine: Engine, slot: Slot, files: UsageFiles | None) -> float | None:
    if files is not None:
        return read_cpu_seconds(files)
    try:
        return engine.usage(slot.container).cpu_seconds
    except HostError:
        return None


def _guest_share(engine: Engine, slot: Slot, files: UsageFiles | None) -> float:
    """Measure what share of a core the threads of a guest kernel use on this machine, and allow some times as much."""
    before, began = _cpu_seconds(engine, slot, files), time.monotonic()
    time.sleep(_GVISOR_SECONDS)
    after, passed = _cpu_seconds(engine, slot, files), time.monotonic() - began
    seen = (after - before) / passed if before is not None and after is not None else 0.0
    return min(max(_GVISOR_SHARE_TIMES * seen, _GVISOR_SHARE_MIN), _GVISOR_SHARE_MAX)


def _waking_seconds(files: UsageFiles | None) -> float:
    start = read_process_1_seconds(files) if files else None
    return min(start * _WAKING_SHARE, _WAKING_SECONDS_MAX) if start else _WAKING_SECONDS


def find_fault(engine: Engine, waiting: Waiting, *, lease_seconds: float, ask_engine: bool) -> str | None:
    """Return why a slot must not be given away any more, or None. What a guest kernel has used counts from here on.

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
    if fault := _seal_fault(waiting) or _cpu_fault(engine, waiting):
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
    if state.networks.keys() - {"none"} or state.image_id != slot.request.config.image_id:
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
    if now.tmp != then.tmp:
        return "files"
    # gVisor's own processes come and go; what runs in it the host's kernel does not see.
    if now.processes != then.processes and not waiting.slot.request.config.has_guest_kernel:
        return "processes"
    return None


def _holds_something(slot: Slot, name: str) -> bool:
    with os.scandir(slot.folder / name) as entries:
        return next(entries, None) is not None


def _cpu_fault(engine: Engine, waiting: Waiting) -> str | None:
    """Return a fault where something ran since the container was ready; of a guest kernel, since the last look."""
    now, used = time.monotonic(), _cpu_seconds(engine, waiting.slot, waiting.usage_files)
    if waiting.cpu_seconds is None:
        return None if used is None else "cpu"  # who counts has counted from the start
    allowed = waiting.waking_seconds + waiting.share * (now - waiting.looked_at)
    if used is None or used - waiting.cpu_seconds > allowed:
        return "cpu"
    if waiting.share:
        waiting.looked_at, waiting.cpu_seconds = now, used
    return None
