"""What the command reports: the words and codes for how a run ended, and for what went wrong.

Imports nothing heavy: every subcommand uses it, `version` and `verify` among them.
"""

import resource
from collections.abc import Mapping
from typing import Any

from executor.errors import (
    Cancelled,
    HostError,
    ImageMismatchError,
    JobError,
    RequestError,
    UnsupportedError,
    host_error,
)
from executor.exits import Exit
from executor.text import printable
from images.errors import ImageError, SourceError, StoreError
from policy.errors import PolicyError
from signing.errors import SigningError, TrustRequestError, VerificationError

RESULT_SCHEMA = "executor.result/v1"
ERROR_SCHEMA = "executor.error/v1"
_CAUSES_MAX = 8
_OURS = ("executor", "images", "policy", "signing")
Status = tuple[str, Exit]

# The first that fits counts, so leaves stand before their bases.
_STATUS: tuple[tuple[type[BaseException], str, Exit], ...] = (
    (RequestError, "invalid_request", Exit.INVALID_REQUEST),
    (ImageMismatchError, "image_mismatch", Exit.IMAGE_MISMATCH),
    (SourceError, "host_fault", Exit.HOST_RETRYABLE),
    (StoreError, "host_fault", Exit.HOST_RETRYABLE),
    (ImageError, "image_mismatch", Exit.IMAGE_MISMATCH),
    (PolicyError, "invalid_request", Exit.INVALID_REQUEST),
    (Cancelled, "cancelled", Exit.CANCELLED),
    (UnsupportedError, "host_fault", Exit.HOST_PERMANENT),
    (HostError, "host_fault", Exit.HOST_RETRYABLE),
    (TrustRequestError, "invalid_request", Exit.INVALID_REQUEST),
    (VerificationError, "verification_failed", Exit.VERIFICATION_FAILED),
    (SigningError, "signing_failed", Exit.SIGNING_FAILED),
    (KeyboardInterrupt, "interrupted", Exit.INTERRUPTED),
)


def status_of(error: BaseException) -> Status:
    """Return status word and exit code of an error: its own, where it carries one."""
    if isinstance(error, JobError):
        status: Status = getattr(error, "status", ("job_failed", Exit.JOB_FAILED))
        return status
    for kind, word, code in _STATUS:
        if isinstance(error, kind):
            return word, code
    return "internal_error", Exit.INTERNAL


def host_fault(error: BaseException) -> HostError | None:
    """Return the host's error for what Python raises where a host lacks memory, threads, a package or a file.

    None where it is something else: one of our errors, or a fault of ours.
    """
    # CPython's own fault, which beside a limit is an allocation that failed (seen with `ulimit -v`, 2026-12-01).
    is_memory = isinstance(error, MemoryError) or (isinstance(error, SystemError) and _is_limited())
    if is_memory or (isinstance(error, RuntimeError) and "start new thread" in str(error)):
        lacking = "memory" if is_memory else "threads"
        if _is_limited():
            return UnsupportedError(f"not enough {lacking}", hint="raise the limits that the command has: ulimit -a")
        return HostError(f"the host has not enough {lacking}")
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] not in _OURS:
        return UnsupportedError(f"a package cannot be loaded: {error}", hint="install the executor anew")
    if isinstance(error, OSError):
        return host_error(error, f"the host failed{f': {error.filename}' if error.filename else ''}")
    return None


def _is_limited() -> bool:
    """Whether a resource limit bounds the memory or the processes of this process."""
    limits = (resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_NPROC)
    return any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in limits)


def error_wire(error: BaseException) -> dict[str, str]:
    """Return an error's recorded form, with the checks and files that it names."""
    wire = {
        "code": str(getattr(error, "code", "E-INTERNAL")),
        "message": str(getattr(error, "message", "") or error or type(error).__name__),
        "hint": str(getattr(error, "hint", "")),
    }
    for name in ("check", "file"):
        if value := getattr(error, name, ""):
            wire[name] = str(value)
    return wire


def result_wire(report: Mapping[str, Any], status: Status) -> dict[str, Any]:
    """Return the one JSON object that `run` prints."""
    return {"schema": RESULT_SCHEMA, "status": status[0], "exit_code": int(status[1]), **report}


def failure_wire(error: BaseException) -> dict[str, Any]:
    """Return the one JSON object that a command prints when it failed before it had a result."""
    status = status_of(error)
    wire: dict[str, Any] = {"schema": ERROR_SCHEMA, "status": status[0], "exit_code": int(status[1])}
    for name in ("run_id", "record"):
        if value := getattr(error, name, ""):
            wire[name] = str(value)
    return wire | {"error": error_wire(error)}


def render_error(error: BaseException) -> str:
    """Return an error for people: the check that failed, what happened, the chain of causes, and what to do."""
    wire = error_wire(error)
    check = f"{wire['check']}: " if "check" in wire else ""
    lines = [f"error: {check}{printable(wire['message'])}"]
    cause, depth = error.__cause__, 0
    while cause is not None and depth < _CAUSES_MAX:
        depth += 1
        text = str(getattr(cause, "message", "") or cause).strip()
        if text and text not in lines[0]:
            lines.append(f"  cause: {printable(' '.join(text.split())[:300])}")
        cause = cause.__cause__
    if wire["hint"]:
        lines += ["", f"hint: {printable(wire['hint'])}"]
    return "\n".join(lines)
