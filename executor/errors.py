"""Errors of the executor, by whose fault they are.

ExecutorError
├── RequestError         the caller's: the job file or an option
├── ImageMismatchError   image not pinned, missing, or not what its digest says
├── JobError             the job's: protocol violations and broken promises
│   └── LimitExceededError  more outputs or text than allowed (executor.transfer.quarantine)
├── DeniedError          the policy's: a denial, which is a result and no failure
├── HostError            the host's or the engine's, worth a retry
│   └── UnsupportedError the host or engine cannot do it; a retry will not help
└── Cancelled            somebody asked to stop
Errors of `policy`, `signing` and `images` have trees of their own; `executor.status` maps all of them to exit codes.
"""

import errno

# What the system refuses because of how something is set up: the same call fails in the same way a minute later.
_PERMANENT = frozenset(
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ELOOP", "ENOTDIR", "EISDIR", "EXDEV"),
        *("EFBIG", "EINVAL", "EMLINK", "ENODEV", "ENOSYS", "ENOTSUP", "ENXIO"),
    )
)


class ExecutorError(Exception):
    """Base of all executor errors.

    Attributes:
        code: Stable identifier, such as `E-REQUEST`.
        message: What happened: to what, with which value. No secret.
        hint: What to do about it, or the empty string.
        run_id: The run that it ended, or the empty string.
        record: Where that run's record lies, or the empty string.
    """

    code = "E-EXECUTOR"
    run_id = ""
    record = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RequestError(ExecutorError):
    """The job file or an option is invalid; nothing was started."""

    code = "E-REQUEST"


class ImageMismatchError(ExecutorError):
    """The image is not pinned, not in the engine, or not what its digest says."""

    code = "E-IMAGE-MISMATCH"


class JobError(ExecutorError):
    """What a job sent breaks the protocol or its own declarations."""

    code = "E-JOB"


class HostError(ExecutorError):
    """The host or the engine failed; a retry may help."""

    code = "E-HOST"


class UnsupportedError(HostError):
    """The host or the engine cannot do what is asked."""

    code = "E-UNSUPPORTED"


class Cancelled(ExecutorError):  # noqa: N818 - not an error of anyone's
    """A signal asked to stop."""

    code = "E-CANCELLED"


def host_error(error: OSError, message: str, *, hint: str = "") -> HostError:
    """Return the host's error for a refused system call: worth a retry, unless another try would be refused as well.

    Args:
        error: What the system said.
        message: What was tried, on what. What the system said is added.
        hint: What to do about it.
    """
    kind = UnsupportedError if error.errno in _PERMANENT else HostError
    return kind(f"{message}: {error.strerror or error}", hint=hint)
