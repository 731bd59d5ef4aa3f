"""Words, codes and rendering of errors."""

import resource

import pytest

from executor import errors
from executor.cli.progress import describe
from executor.exits import Exit
from executor.status import failure_wire, host_fault, render_error, status_of
from executor.text import printable
from images.errors import LockError
from policy.errors import PolicyFileError
from signing.errors import SigningError, VerificationError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RequestError("x"), Exit.INVALID_REQUEST),
        (PolicyFileError("x"), Exit.INVALID_REQUEST),
        (errors.ImageMismatchError("x"), Exit.IMAGE_MISMATCH),
        (LockError("x"), Exit.IMAGE_MISMATCH),
        (errors.Cancelled("x"), Exit.CANCELLED),
        (errors.JobError("x"), Exit.JOB_FAILED),
        (errors.HostError("x"), Exit.HOST_RETRYABLE),
        (errors.UnsupportedError("x"), Exit.HOST_PERMANENT),
        (SigningError("x"), Exit.SIGNING_FAILED),
        (VerificationError("x", check="LOG"), Exit.VERIFICATION_FAILED),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
        (ZeroDivisionError("x"), Exit.INTERNAL),
    ],
)
def test_every_error_has_its_code(error: BaseException, code: Exit) -> None:
    assert status_of(error)[1] is code
    assert failure_wire(error)["exit_code"] == int(code)


@pytest.mark.parametrize("limit", [1 << 40, resource.RLIM_INFINITY])
def test_a_fault_of_python_beside_a_limit_on_memory_is_the_limit(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    told = host_fault(SystemError("error return without exception set"))
    assert isinstance(told, errors.UnsupportedError) == (limit != resource.RLIM_INFINITY)
    assert isinstance(host_fault(MemoryError()), errors.HostError)


def test_an_error_renders_with_its_cause_and_its_hint() -> None:
    error = errors.HostError("cannot write", hint="mount it")
    error.__cause__ = OSError("disk is gone")
    assert render_error(error) == "error: cannot write\n  cause: disk is gone\n\nhint: mount it"


def test_the_wire_form_of_a_verification_error_names_check_and_file() -> None:
    wire = failure_wire(VerificationError("m", check="DIGEST", file="a"))["error"]
    assert (wire["check"], wire["file"]) == ("DIGEST", "a")


def test_what_a_job_prints_cannot_steer_a_terminal() -> None:
    line = describe({"event": "log", "stream": "stdout", "text": "\x1b[2J\x1b]0;owned\x07ok\r\n"})
    assert line is not None
    assert "\x1b" not in line
    assert "\x07" not in line
    assert printable("a\u202eb") == r"a\u202eb"


def test_progress_reads_epoch_and_loss_first() -> None:
    line = describe({"event": "progress", "values": {"accuracy": 0.5, "loss": 1.0, "epoch": 3}})
    assert line == "  epoch 3  loss 1.0000  accuracy 0.5000"


def test_an_event_that_is_not_known_is_not_shown() -> None:
    assert describe({"event": "novelty"}) is None
