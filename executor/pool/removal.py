"""The removal of the pool's containers: of used ones when jobs leave room for it, and of those that nobody knows of."""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from executor.errors import HostError
from executor.sandbox.engine import Engine
from executor.sandbox.slot import Slot
from executor.state.home import Home
from executor.state.owner import LABEL_OWNER, discard_run_folder, home_label, is_ours, parse_owner

_REMOVERS = 2
_REMOVAL_PATIENCE_SECONDS = 10.0
_USED_MAX = 64  # used containers that may wait for their removal
_RETRY_SECONDS = 1.0
_STRAYS_SECONDS = 30.0
_TICK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _Removal:
    """A container to remove: at once, or when jobs leave room for it."""

    slot: Slot
    at_once: bool


class Removals:
    """Removes containers in threads of its own.

    Args:
        engine: Where they are.
        home: The state directory whose they are.
        quiet: Whether no job runs, and none has for a moment.
        stopping: Set when the pool is to end.
        say: Told what happens, for the log.
    """

    def __init__(
        self,
        engine: Engine,
        home: Home,
        *,
        quiet: Callable[[], bool],
        stopping: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._home = home
        self._quiet = quiet
        self._stopping = stopping
        self._say = say
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Removal | None] = queue.SimpleQueue()
        self._removing = True
        self._names: set[str] = set()  # of every container that is or will be ours
        self._removers = [threading.Thread(target=self._remove_all, name=f"remove-{n}") for n in range(_REMOVERS)]
        self._strays = threading.Thread(target=self._remove_strays, name="strays")

    def start(self) -> None:
        """Start to remove what there is to remove."""
        for thread in (self._strays, *self._removers):
            thread.start()

    def know(self, name: str) -> None:
        """Take note of a container that is about to be made, so that it is no stray."""
        with self._lock:
            self._names.add(name)

    def forget(self, name: str) -> None:
        """Take note that a container is gone or was not made: if there is one of that name, it is a stray."""
        with self._lock:
            self._names.discard(name)

    def remove(self, slot: Slot, *, at_once: bool) -> bool:
        """Have a container removed; False where it is too late for that, and whoever has it removes it itself."""
        with self._lock:
            if self._removing:
                self._queue.put(_Removal(slot, at_once=at_once))
            return self._removing

    def finish(self) -> None:
        """Take no more, and return when everything that was taken is removed."""
        if self._strays.ident:
            self._strays.join()
        with self._lock:
            self._removing = False
            for _ in self._removers:
                self._queue.put(None)
        for thread in self._removers:
            if thread.ident:
                thread.join()

    def _wait_for_quiet(self, seconds: float) -> None:
        """Let jobs go first, for a while."""
        patience = time.monotonic() + seconds
        while not self._quiet() and time.monotonic() < patience and not self._stopping.wait(_TICK_SECONDS):
            pass

    def _remove_all(self) -> None:
        """Remove used and discarded containers, one after another. What cannot be removed yet is tried again."""
        while (removal := self._queue.get()) is not None:
            slot = removal.slot
            if not removal.at_once and self._queue.qsize() < _USED_MAX:
                self._wait_for_quiet(_REMOVAL_PATIENCE_SECONDS)
            if not slot.lease.end():
                self._say(f"could not remove {slot.request.name}")
                if not self._stopping.wait(_RETRY_SECONDS):
                    self._queue.put(removal)
                continue  # its folder stays, so that a sweep knows whose it was
            discard_run_folder(slot.folder)
            self.forget(slot.request.name)

    def _remove_strays(self) -> None:
        """Remove containers that the engine made although it had said that it had not, or had not said anything."""
        me = str(os.getpid())
        while not self._stopping.wait(_STRAYS_SECONDS):
            with contextlib.suppress(HostError):
                for container in filter(is_ours, self._engine.owned(home_label(self._home))):
                    owner = parse_owner(container.labels.get(LABEL_OWNER, ""))
                    with self._lock:
                        known = container.name in self._names
                    if owner is not None and str(owner.pid) == me and owner.alive and not known:
                        self._engine.remove(container.container_id)
                        self._say(f"removed a stray: {container.name}")
