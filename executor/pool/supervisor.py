"""The pool's supervisor: keeps slots ready, gives each away once, and sees to it that none outlives its job.

Real jobs come first: a container that is only being started for later, or is used up and has to go, waits until no job
has run for a moment. No more are started at once than there are CPUs for: starting more gains nothing (measured 2026-11
on two cores: 2.9 a second with two at a time, 3.0 with eight, each taking five times as long).

A caller's connection is its lease: when it ends, the container goes, whatever became of the caller.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from executor.errors import ExecutorError
from executor.pool.callers import Callers
from executor.pool.removal import Removals
from executor.pool.stock import PoolClass, Shelf, Waiting, find_fault, record_ready
from executor.pool.wire import listen, peer, receive, send
from executor.sandbox.config import ContainerRequest
from executor.sandbox.engine import Engine
from executor.sandbox.protocol import Channel
from executor.sandbox.slot import Slot, make_folders, open_slot
from executor.state.home import Home
from executor.state.owner import claim_run_folder, discard_run_folder, hand_over, labels_for, parse_owner

SCHEMA = "executor.pool/v1"
_QUIET_SECONDS = 0.25  # without a job before refill goes on
_PATIENCE_SECONDS = 5.0  # where jobs never pause, one more container all the same
_TICK_SECONDS = 0.05
_BACKOFF_SECONDS_MAX = 60.0
_FIRST_WORD_SECONDS = 5.0
_PATROL_SECONDS = 2.0
_PATROL_STEP_SECONDS = 0.05
# Process 1 counts its lease from before the imports, and a slot that is given away needs time for its launch.
_LEASE_MARGIN_SECONDS = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """How a pool is kept.

    Attributes:
        lease_seconds: How long a slot may wait before it is replaced.
        starts_max: How many containers are started at once.
    """

    lease_seconds: float
    starts_max: int


def starts_max() -> int:
    """Return how many starts at once this machine is good for."""
    return max(1, min(2, len(os.sched_getaffinity(0))))


class Pool:
    """A pool of slots. `run` serves until `stop`.

    Args:
        engine: Where they run.
        home: The state directory.
        classes: What to keep ready.
        settings: How.
        say: Told what happens, for the log.
    """

    def __init__(
        self,
        engine: Engine,
        home: Home,
        classes: Sequence[PoolClass],
        *,
        settings: PoolSettings,
        say: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._home = home
        self._settings = settings
        self._say = say
        self._shelves = {c.key: Shelf(pool_class=c) for c in classes}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._removals = Removals(engine, home, quiet=self._is_quiet, stopping=self._stopping, say=say)
        self._callers = Callers(self._serve, stopping=self._stopping, say=say)
        self._counts: Counter[str] = Counter()
        self._active = 0
        self._job_seen = 0.0
        self._began = time.time()

    def run(self) -> None:
        """Keep slots ready and serve callers, until somebody says stop. Everything that waits is removed at the end."""
        workers = [threading.Thread(target=self._refill, name=f"refill-{n}") for n in range(self._settings.starts_max)]
        workers.append(threading.Thread(target=self._patrol, name="patrol"))
        try:
            with contextlib.closing(listen(self._home.pool)) as server:
                self._removals.start()
                for thread in workers:
                    thread.start()
                self._callers.receive(server, tick=self._drop_overdue)
        finally:
            self._stopping.set()
            self._tear_down([thread for thread in workers if thread.ident])

    def _tear_down(self, workers: list[threading.Thread]) -> None:
        for thread in workers:
            thread.join()
        with self._lock:
            left = [waiting.slot for shelf in self._shelves.values() for waiting in shelf.waiting]
            for shelf in self._shelves.values():
                shelf.waiting.clear()
        for slot in left:
            slot.shut()
            self._removals.remove(slot, at_once=True)
        self._removals.finish()  # whoever ends a job from now on removes its container itself

    def stop(self) -> None:
        """Have `run` return. Jobs that have their container already keep it, and remove it themselves."""
        self._stopping.set()

    def status(self) -> dict[str, Any]:
        """Return what the pool holds and has done."""
        now = time.monotonic()
        with self._lock:
            shelves = [
                {
                    "kind": shelf.pool_class.kind,
                    "image_id": shelf.pool_class.config.image_id,
                    "runtime": shelf.pool_class.config.runtime,
                    "sandbox_sha256": shelf.pool_class.config.digest,
                    "size": shelf.pool_class.size,
                    "ready": len(shelf.waiting),
                    "starting": shelf.starting,
                    "oldest_seconds": round(now - shelf.waiting[0].since, 1) if shelf.waiting else None,
                    "error": shelf.error or None,
                }
                for shelf in self._shelves.values()
            ]
            counts = {name: self._counts[name] for name in ("started", "failed", "hits", "misses", "discarded")}
            faults = {n.partition(":")[2]: c for n, c in sorted(self._counts.items()) if n.startswith("fault:")}
            active = self._active
        return {
            "schema": SCHEMA,
            "status": "running",
            "exit_code": 0,
            "pid": os.getpid(),
            "since": round(self._began, 3),
            "lease_seconds": self._settings.lease_seconds,
            "active": active,
            "classes": shelves,
            "counts": counts,
            "discarded_for": faults,
        }

    def _serve(self, stream: socket.socket) -> None:
        """Answer one caller, until it hangs up."""
        try:
            stream.settimeout(_FIRST_WORD_SECONDS)
            message, _ = receive(stream)
            stream.settimeout(None)
            if message.get("op") == "take":
                self._serve_take(stream, message)
            elif message.get("op") == "status":
                send(stream, self.status())
            elif message.get("op") == "stop":
                send(stream, {"op": "stopping"})
                self.stop()
        except (OSError, EOFError, ValueError) as err:
            self._say(f"a caller was dropped: {err}")

    def _serve_take(self, stream: socket.socket, message: dict[str, Any]) -> None:
        owner = parse_owner(str(message.get("owner")))
        if owner is None or owner.pid != peer(stream)[0]:
            raise ValueError("a caller does not say truly who it is")
        with self._lock:
            self._active += 1
            self._job_seen = time.monotonic()
        try:
            slot = self._take((str(message.get("kind")), str(message.get("sandbox_sha256"))))
            if slot is None:
                send(stream, {"op": "miss"})
                self._wait_for_end(stream)
                return
            removed = False
            try:
                hand_over(slot.folder, owner)
                send(stream, _offer(slot), [slot.channels[channel].fileno() for channel in Channel])
                slot.shut()  # ours; the caller has its own now
                self._wait_for_end(stream)
            finally:
                slot.shut()
                removed = self._removals.remove(slot, at_once=False)
            if removed:
                send(stream, {"op": "ended"})  # a caller that does not hear this removes its container itself
        finally:
            with self._lock:
                self._active -= 1
                self._job_seen = time.monotonic()

    def _wait_for_end(self, stream: socket.socket) -> None:
        """Wait until the caller is done with what it has, or gone."""
        with contextlib.suppress(OSError, EOFError, ValueError):
            receive(stream)

    def _take(self, key: tuple[str, str]) -> Slot | None:
        shelf = self._shelves.get(key)
        while shelf is not None:
            with self._lock:
                waiting = shelf.waiting.popleft() if shelf.waiting and not self._stopping.is_set() else None
            if waiting is None:
                break
            fault: str | None = "unknown"
            try:
                fault = self._fault(waiting, ask_engine=False)
            finally:
                if fault is not None:
                    self._discard(waiting, fault)
            if fault is None:
                with self._lock:
                    self._counts["hits"] += 1
                return waiting.slot
        with self._lock:
            self._counts["misses"] += 1
        return None

    def _drop_overdue(self) -> None:
        for shelf in self._shelves.values():
            while True:
                with self._lock:
                    oldest = shelf.waiting[0] if shelf.waiting else None
                    if oldest is None or time.monotonic() - oldest.since <= self._settings.lease_seconds:
                        break
                    shelf.waiting.popleft()
                self._discard(oldest, "lease")

    def _patrol(self) -> None:
        """Look at one waiting slot after the other, all the time, and ask the engine too; discard what has a fault."""
        while not self._stopping.wait(_PATROL_SECONDS):
            with self._lock:
                rounds = [(shelf, waiting) for shelf in self._shelves.values() for waiting in shelf.waiting]
            for shelf, waiting in rounds:
                if self._stopping.wait(_PATROL_STEP_SECONDS):
                    return
                if not self._is_quiet() or (fault := self._fault(waiting, ask_engine=True)) is None:
                    continue
                with self._lock:
                    if waiting not in shelf.waiting:
                        continue
                    shelf.waiting.remove(waiting)
                self._discard(waiting, fault)

    def _fault(self, waiting: Waiting, *, ask_engine: bool) -> str | None:
        return find_fault(self._engine, waiting, lease_seconds=self._settings.lease_seconds, ask_engine=ask_engine)

    def _is_quiet(self) -> bool:
        """Whether no job runs, and none has for a moment."""
        with self._lock:
            return self._active == 0 and time.monotonic() - self._job_seen >= _QUIET_SECONDS

    def _discard(self, waiting: Waiting, fault: str) -> None:
        waiting.slot.shut()
        self._removals.remove(waiting.slot, at_once=True)
        with self._lock:
            self._counts["discarded"] += 1
            self._counts[f"fault:{fault}"] += 1
        self._say(f"discarded {waiting.slot.request.name}: {fault}")

    def _refill(self) -> None:
        lacking_since = 0.0
        while not self._stopping.wait(_TICK_SECONDS):
            with self._lock:
                shelf = self._neediest()
                if shelf is None:
                    lacking_since = 0.0
                    continue
                now = time.monotonic()
                lacking_since = lacking_since or now
                if (self._active or now - self._job_seen < _QUIET_SECONDS) and now - lacking_since < _PATIENCE_SECONDS:
                    continue
                shelf.starting += 1
                lacking_since = 0.0
            self._start_one(shelf)

    def _neediest(self) -> Shelf | None:
        """Return the shelf with the least on it that lacks something and may be tried."""
        now = time.monotonic()
        lacking = [s for s in self._shelves.values() if s.lacks > 0 and now >= s.retry_at]
        return min(lacking, key=lambda s: (len(s.waiting) + s.starting) / s.pool_class.size, default=None)

    def _start_one(self, shelf: Shelf) -> None:
        try:
            waiting = record_ready(self._engine, self._open(shelf.pool_class))
        except (ExecutorError, OSError) as err:
            with self._lock:
                shelf.starting -= 1
                shelf.failures += 1
                shelf.error = str(err)
                shelf.retry_at = time.monotonic() + min(2.0**shelf.failures, _BACKOFF_SECONDS_MAX)
                self._counts["failed"] += 1
            if not self._stopping.is_set():
                self._say(f"a container could not be started: {err}")
            return
        with self._lock:
            shelf.starting -= 1
            shelf.failures, shelf.error = 0, ""
            shelf.waiting.append(waiting)
            self._counts["started"] += 1

    def _open(self, kind: PoolClass) -> Slot:
        lease = self._settings.lease_seconds
        slot_id = f"pool-{secrets.token_hex(8)}"
        name = f"sealed-executor-{slot_id}"
        folder = claim_run_folder(self._home, slot_id, wall_seconds=lease)
        self._removals.know(name)
        try:
            make_folders(folder)
            request = ContainerRequest(
                name=name,
                config=kind.config,
                folder=folder,
                labels=labels_for(self._home, slot_id, wall_seconds=lease),
            )
            slot = open_slot(
                self._engine,
                request,
                users=self._home.users,
                kind=kind.kind,
                preload=True,
                lease_seconds=lease + _LEASE_MARGIN_SECONDS,
                cancelled=self._stopping.is_set,
            )
        except BaseException:
            discard_run_folder(folder)
            self._removals.forget(name)  # if the engine makes it all the same, it is a stray
            raise
        return replace(slot, warm=True, seconds={})


def _offer(slot: Slot) -> dict[str, Any]:
    return {
        "op": "hit",
        "name": slot.request.name,
        "folder": str(slot.folder),
        "container": slot.container,
        "pid": slot.pid,
        "host_config_sha256": slot.host_config_sha256,
        "started": slot.started,
    }
