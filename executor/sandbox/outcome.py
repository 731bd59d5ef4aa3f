"""What became of a run: a pure classifier from observed facts to a closed set of outcomes.

The order says which fact wins. What the host did itself comes first, because the host knows why it did it; then what
the kernel counted; then how the job ended. Evidence that fits nothing is the host's fault, and never a success.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from executor.exits import Exit
from executor.sandbox.cgroup import Usage
from executor.sandbox.protocol import WorkerExit

_SIGKILL = 9
_SIGXCPU = 24  # signal(7): the kernel's word for a spent RLIMIT_CPU


class Stop(Enum):
    """Why the host ended a run before the job did."""

    WALL = "wall_seconds"
    IDLE = "idle_seconds"
    LOG = "log_bytes"
    OUTPUT_BYTES = "output_bytes"
    OUTPUT_FILE_BYTES = "output_file_bytes"
    OUTPUT_FILES = "output_files"
    PIDS = "pids"
    HOST_CPU = "host_cpu_seconds"
    TCP_SOCKETS = "tcp_sockets"
    PROTOCOL = "protocol"
    CANCELLED = "cancelled"


class OutcomeKind(Enum):
    """The closed set of outcomes, with the words that records use."""

    SUCCEEDED = "succeeded"
    JOB_FAILED = "job_failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    LIMIT_EXCEEDED = "limit_exceeded"
    CANCELLED = "cancelled"
    HOST_FAULT = "host_fault"

    @property
    def exit(self) -> Exit:
        """The command's exit code where this is the end of it."""
        return _EXITS[self]


_EXITS = {
    OutcomeKind.SUCCEEDED: Exit.RELEASED,
    OutcomeKind.JOB_FAILED: Exit.JOB_FAILED,
    OutcomeKind.TIMED_OUT: Exit.TIMED_OUT,
    OutcomeKind.OUT_OF_MEMORY: Exit.OUT_OF_MEMORY,
    OutcomeKind.LIMIT_EXCEEDED: Exit.LIMIT_EXCEEDED,
    OutcomeKind.CANCELLED: Exit.CANCELLED,
    OutcomeKind.HOST_FAULT: Exit.HOST_RETRYABLE,
}


class Fault(Enum):
    """Whose doing an outcome is."""

    JOB = "job"
    LIMIT = "limit"
    HOST = "host"
    CALLER = "caller"


_FAULTS = {
    OutcomeKind.SUCCEEDED: None,
    OutcomeKind.JOB_FAILED: Fault.JOB,
    OutcomeKind.TIMED_OUT: Fault.LIMIT,
    OutcomeKind.OUT_OF_MEMORY: Fault.LIMIT,
    OutcomeKind.LIMIT_EXCEEDED: Fault.LIMIT,
    OutcomeKind.CANCELLED: Fault.CALLER,
    OutcomeKind.HOST_FAULT: Fault.HOST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What was observed of one container.

    Attributes:
        stop: Why the host ended it, or None.
        stop_detail: More of that, for people.
        job_exit: Exit code and signal of the job's process as process 1 reported it, or None. Untrusted.
        container_status: Status of process 1 as the engine reports it, or None.
        oom_killed: The engine's word that some process was killed for memory.
        usage: The kernel's counters.
        error: Type and message of what the job raised. Untrusted.
        finished: Whether the job sent its result.
    """

    stop: Stop | None
    stop_detail: str
    job_exit: tuple[int, int] | None
    container_status: int | None
    oom_killed: bool
    usage: Usage
    error: str
    finished: bool

    def to_wire(self) -> dict[str, Any]:
        """Return the recorded form: the evidence for an outcome."""
        return {
            "stop": self.stop.value if self.stop else None,
            "job_exit_code": self.job_exit[0] if self.job_exit else None,
            "job_signal": self.job_exit[1] if self.job_exit else None,
            "container_status": self.container_status,
            "engine_oom_killed": self.oom_killed,
            "oom_kills": self.usage.oom_kills,
            "pids_refused": self.usage.pids_refused,
            "result_sent": self.finished,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        kind: One of the closed set.
        reason: One sentence for people. May quote the job.
        limit: The limit that was exceeded, or None.
        job_exit_code: The job's own status: data, never ours.
        job_signal: The signal that ended the job, or None.
        evidence: The facts that it was decided on.
    """

    kind: OutcomeKind
    reason: str
    limit: str | None = None
    job_exit_code: int | None = None
    job_signal: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fault(self) -> Fault | None:
        """Whose doing it is; None where all is well."""
        return _FAULTS[self.kind]

    def to_wire(self) -> dict[str, Any]:
        """Return the recorded form."""
        return {
            "kind": self.kind.value,
            "fault": self.fault.value if self.fault else None,
            "reason": self.reason,
            "limit": self.limit,
            "job_exit_code": self.job_exit_code,
            "job_signal": self.job_signal,
            "evidence": dict(self.evidence),
        }


def classify(facts: RunFacts) -> Outcome:
    """Decide what became of a run."""
    code, signal = facts.job_exit or (None, None)

    def outcome(kind: OutcomeKind, reason: str, limit: str | None = None) -> Outcome:
        return Outcome(
            kind=kind,
            reason=reason,
            limit=limit,
            job_exit_code=code,
            job_signal=signal or None,
            evidence=facts.to_wire(),
        )

    if facts.stop is not None:
        return outcome(*_stopped(facts.stop, facts.stop_detail))
    if _killed(facts) and (facts.oom_killed or facts.usage.oom_kills):
        return outcome(OutcomeKind.OUT_OF_MEMORY, "the job was killed for memory", "memory_bytes")
    if facts.job_exit is None:
        return outcome(*_without_report(facts.container_status))
    if signal == _SIGXCPU:
        return outcome(OutcomeKind.TIMED_OUT, "the job used up its CPU time", "cpu_seconds")
    if facts.usage.pids_refused:
        return outcome(OutcomeKind.LIMIT_EXCEEDED, "the job wanted more processes than allowed", "pids")
    if code != 0:
        ended = f"signal {signal}" if signal else f"exit code {code}"
        return outcome(OutcomeKind.JOB_FAILED, facts.error or f"the job ended with {ended}")
    if not facts.finished:
        return outcome(OutcomeKind.JOB_FAILED, "the job ended without sending its result")
    return outcome(OutcomeKind.SUCCEEDED, "the job finished")


def _killed(facts: RunFacts) -> bool:
    """Whether the job's own process, or process 1 over it, was killed. A child's end is the job's to deal with.

    An exit code of 137 is a number that anybody can return; only where process 1 did not report does it have to do.
    """
    if facts.job_exit is not None:
        return facts.job_exit[1] == _SIGKILL
    return facts.container_status == 128 + _SIGKILL


def _stopped(stop: Stop, detail: str) -> tuple[OutcomeKind, str, str | None]:
    match stop:
        case Stop.WALL:
            return OutcomeKind.TIMED_OUT, f"the job ran longer than its wall limit{detail}", stop.value
        case Stop.IDLE:
            return (
                OutcomeKind.TIMED_OUT,
                f"the job was idle{detail}: it sent nothing and used less than 1 % of a core",
                stop.value,
            )
        case Stop.CANCELLED:
            return OutcomeKind.CANCELLED, "the run was cancelled", None
        case Stop.PROTOCOL:
            return OutcomeKind.JOB_FAILED, f"the job broke the output protocol{detail}", stop.value
        case Stop.HOST_CPU:
            return OutcomeKind.LIMIT_EXCEEDED, f"the job kept the host busy{detail}", stop.value
        case Stop.LOG | Stop.OUTPUT_BYTES | Stop.OUTPUT_FILE_BYTES | Stop.OUTPUT_FILES | Stop.PIDS | Stop.TCP_SOCKETS:
            return OutcomeKind.LIMIT_EXCEEDED, f"the job exceeded {stop.value}{detail}", stop.value


def _without_report(status: int | None) -> tuple[OutcomeKind, str]:
    if status == WorkerExit.OVERDUE:
        return OutcomeKind.TIMED_OUT, "the container ended itself at its own deadline"
    if status == WorkerExit.ABANDONED:
        return OutcomeKind.HOST_FAULT, "the container saw the host's end of the socket close"
    if status == WorkerExit.UNUSED:
        return OutcomeKind.HOST_FAULT, "the container's lease was over before it got a job"
    return OutcomeKind.HOST_FAULT, f"the container ended without a report, status {status}"
