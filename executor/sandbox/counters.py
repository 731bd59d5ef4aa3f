"""What one container has used so far: from its cgroup where this process sees it, else from the engine.

The cgroup is read in a fraction of a millisecond. The engine answers in some, or not at all: it is asked less often,
and by a thread of its own, so that nobody who drains a job's output waits for it. Where neither can tell, nothing is
made up.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from executor.errors import HostError
from executor.sandbox.cgroup import (
    Usage,
    UsageFiles,
    find_usage_files,
    read_process_1_seconds,
    read_tcp_sockets,
    read_usage,
)
from executor.sandbox.engine import Engine

_ENGINE_SECONDS_MIN = 1.0  # between two questions to the engine
_ENGINE_PAUSES = 4  # as long as an answer took, so many times: a slow engine is asked less often
_LAST_SECONDS_MAX = 2.0  # for the engine's last answer, while the container waits for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One reading of a container's counters.

    Attributes:
        at: The monotonic clock when they were read.
        usage: The counters.
        job_cpu_seconds: CPU time without that of process 1, where the two can be told apart; None where nobody counts.
        tcp_sockets: Its TCP sockets; None where only the engine counts, which does not count these.
    """

    at: float
    usage: Usage
    job_cpu_seconds: float | None
    tcp_sockets: int | None = None


class Counters:
    """Reads the counters of one container.

    Args:
        engine: Where the container runs.
        container: The engine's ID of the container.
        pid: Process 1 of the container, as the engine numbers it.
        guest_kernel: Whether the host's process 1 is a whole sandbox, so that the worker's is not told apart.
        clock: A clock that never goes back, in seconds.
    """

    def __init__(
        self, engine: Engine, container: str, pid: int, *, guest_kernel: bool, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._container = container
        self._pid = pid
        self._guest_kernel = guest_kernel
        self._clock = clock
        self._files: UsageFiles | None = None
        self._is_found = False
        self._question: threading.Thread | None = None
        self._answer: Reading | None = None
        self._ask_at = float("-inf")

    def read(self, *, last: bool = False) -> Reading | None:
        """Read the counters; None where there is nothing new.

        Args:
            last: The container is about to end: wait for the engine's answer, if it is the engine that counts.
        """
        if not self._is_found:  # at the first reading and not before the launch, which it would hold up
            self._files = find_usage_files(self._pid, container=self._container)
            self._is_found = True
        return self._take_answer(last=last) if self._files is None else self._read_cgroup(self._files)

    def _read_cgroup(self, files: UsageFiles) -> Reading | None:
        usage = read_usage(files)
        if usage == Usage():  # the container is gone
            return None
        own = None if self._guest_kernel else read_process_1_seconds(files)
        job = None if usage.cpu_seconds is None else usage.cpu_seconds - (own or 0.0)
        return Reading(at=self._clock(), usage=usage, job_cpu_seconds=job, tcp_sockets=read_tcp_sockets(files))

    def _take_answer(self, *, last: bool) -> Reading | None:
        if self._question is None and (last or self._clock() >= self._ask_at):
            self._question = threading.Thread(target=self._ask_engine, name="counters", daemon=True)
            self._question.start()
        if self._question is not None and last:
            self._question.join(_LAST_SECONDS_MAX)
        if self._question is None or self._question.is_alive():
            return None
        self._question, answer = None, self._answer
        return answer

    def _ask_engine(self) -> None:
        began, self._answer = self._clock(), None
        try:
            usage = self._engine.usage(self._container)
            if usage != Usage():
                self._answer = Reading(at=began, usage=usage, job_cpu_seconds=usage.cpu_seconds)
        except HostError:
            return
        finally:
            ended = self._clock()
            self._ask_at = ended + max(_ENGINE_SECONDS_MIN, _ENGINE_PAUSES * (ended - began))
