"""Errors: each with a code of its own, and a refusal of the system told as lasting or passing."""

import errno

import pytest

from executor.errors import ExecutorError, HostError, UnsupportedError, host_error


def leaves(kind: type[ExecutorError]) -> list[type[ExecutorError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]


def test_a_public_error_has_a_code_of_its_own() -> None:
    public = [kind for kind in leaves(ExecutorError) if not kind.__name__.startswith("_")]
    codes = [kind.code for kind in public if "code" in vars(kind)]
    assert len(codes) == len(set(codes))
    assert all(code.startswith("E-") for code in codes)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, HostError),
        (errno.EMFILE, HostError),
        (errno.EIO, HostError),
        (errno.EROFS, UnsupportedError),
        (errno.EACCES, UnsupportedError),
        (errno.ENAMETOOLONG, UnsupportedError),
    ],
)
def test_a_refusal_that_another_try_would_meet_again_is_lasting(number: int, kind: type[HostError]) -> None:
    error = host_error(OSError(number, "refused"), "cannot write x", hint="h")
    assert type(error) is kind
    assert (error.message, error.hint) == ("cannot write x: refused", "h")
