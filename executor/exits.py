"""The exit codes of the command line. DESIGN: all but 0 mean that nothing was released."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, each with one meaning."""

    RELEASED = 0
    JOB_FAILED = 10
    TIMED_OUT = 11
    OUT_OF_MEMORY = 12
    LIMIT_EXCEEDED = 13
    CANCELLED = 14
    DENIED = 20
    INVALID_REQUEST = 21
    IMAGE_MISMATCH = 22
    VERIFICATION_FAILED = 23
    HOST_RETRYABLE = 30
    HOST_PERMANENT = 31
    SIGNING_FAILED = 32
    INTERNAL = 70
    INTERRUPTED = 130
