"""What the host says to the worker in a container, and what the worker's process 1 exits with.

The worker's side is `images/worker/frames.py`, `supervisor.py` and `runner.py`. Both sides are held against
`executor/schema/worker.schema.json`, one definition for each message, by `tests/contract/test_worker_wire.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

PROTOCOL = 4


class Channel(Enum):
    """The streams that a worker opens, by the byte that it sends first on each."""

    SUPERVISOR = b"S"
    CONTROL = b"C"
    STDOUT = b"O"
    STDERR = b"E"


class WorkerExit(IntEnum):
    """What process 1 exits with where it ends for a reason of its own; else with what the job did."""

    UNCONNECTED = 122  # it did not find the host's socket
    OVERDUE = 124  # it gave up by its own clock
    ABANDONED = 125  # it saw the host's socket close
    UNUSED = 126  # nobody gave the container a job within its lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """The first message on the supervisor's channel: what to get ready for.

    Attributes:
        kind: The kind of job.
        threads: CPU threads of the job.
        preload: Whether to import what the kind needs now.
        lease_seconds: How long to wait for a launch.
        egress: Whether to start the relay to the egress proxy.
    """

    kind: str
    threads: int
    preload: bool
    lease_seconds: float
    egress: bool

    def to_wire(self) -> dict[str, Any]:
        """Return the message."""
        return {
            "kind": self.kind,
            "threads": self.threads,
            "preload": self.preload,
            "lease_seconds": self.lease_seconds,
            "egress": self.egress,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """What a worker is to do.

    Attributes:
        kind: The kind of job, or of inspection.
        params: Its parameters. A job's are the submitter's.
        inputs: Paths in the container, by name.
        outputs: Roles of the outputs that may be sent, by name.
        entry: The file of the code to run, or None.
    """

    kind: str
    params: Mapping[str, object]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    entry: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The one launch of a container, told on two channels: to process 1 how long, to the job what.

    Attributes:
        procedure: What to do.
        seed: For random numbers.
        threads: CPU threads.
        cpu_seconds: RLIMIT_CPU of the job's process: a backstop.
        wall_seconds: After how long process 1 ends the job where the host is gone.
    """

    procedure: Procedure
    seed: int
    threads: int
    cpu_seconds: int
    wall_seconds: float

    def to_wire(self) -> tuple[tuple[Channel, dict[str, Any]], ...]:
        """Return the messages, each with the channel that it goes to, in the order in which they are sent."""
        procedure = self.procedure
        job = {
            "kind": procedure.kind,
            "params": dict(procedure.params),
            "inputs": dict(procedure.inputs),
            "outputs": dict(procedure.outputs),
            "entry": procedure.entry,
            "seed": self.seed,
            "threads": self.threads,
            "cpu_seconds": self.cpu_seconds,
        }
        wall = {"type": "launch", "wall_seconds_max": self.wall_seconds}
        return ((Channel.SUPERVISOR, wall), (Channel.CONTROL, job))
