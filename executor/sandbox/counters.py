"""What one container has used so far: from its cgroup where this process sees it, else from the engine.

The cgroup is read in a fraction of a millisecond, the engine answers in some, so that the engine is asked less often.
Where neither can tell, nothing is made up.
"""

from collections.abc import Callable
from dataclasses import dataclass

from executor.errors import HostError
from executor.sandbox.cgroup import Usage, find_usage_files, read_process_1_seconds, read_usage
from executor.sandbox.engine import Engine

_ENGINE_SECONDS_MIN = 1.0  # between two questions to the engine
_ENGINE_PAUSES = 4  # as long as an answer took, so many times: a slow engine is asked less often


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One reading of a container's counters.

    Attributes:
        at: The monotonic clock when they were read.
        usage: The counters.
        job_cpu_seconds: CPU time without that of process 1, where the two can be told apart; None where nobody counts.
    """

    at: float
    usage: Usage
    job_cpu_seconds: float | None


class Counters:
    """Reads the counters of one container.

    Args:
        engine: Where the container runs.
        container: The engine's ID of the container.
        pid: Process 1 of the container, as the engine numbers it.
        runtime: The OCI runtime. Under gVisor the host's process 1 is the whole sandbox, and is not told apart.
        clock: A clock that never goes back, in seconds.
    """

    def __init__(self, engine: Engine, container: str, pid: int, *, runtime: str, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._container = container
        self._pid = pid
        self._runtime = runtime
        self._clock = clock
        self._found = False
        self._ask_at = float("-inf")

    def read(self, *, last: bool = False) -> Reading | None:
        """Read the counters; None where there is nothing new.

        Args:
            last: The container is about to end: ask the engine in any case.
        """
        if not self._found:  # at the first reading and not before the launch, which it would hold up
            self._files = find_usage_files(self._pid, container=self._container)
            self._found = True
        if self._files is None:
            return self._ask_engine(last=last)
        usage = read_usage(self._files)
        if usage == Usage():  # the container is gone
            return None
        own = None if self._runtime == "runsc" else read_process_1_seconds(self._files)
        job = None if usage.cpu_seconds is None else usage.cpu_seconds - (own or 0.0)
        return Reading(at=self._clock(), usage=usage, job_cpu_seconds=job)

    def _ask_engine(self, *, last: bool) -> Reading | None:
        began = self._clock()
        if not last and began < self._ask_at:
            return None
        try:
            usage = self._engine.usage(self._container)
        except HostError:
            return None
        finally:
            ended = self._clock()
            self._ask_at = ended + max(_ENGINE_SECONDS_MIN, _ENGINE_PAUSES * (ended - began))
        return Reading(at=ended, usage=usage, job_cpu_seconds=usage.cpu_seconds)
