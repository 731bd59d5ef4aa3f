"""Errors of the policy package.

PolicyError
└── PolicyFileError   a policy file is missing, malformed or contradicts another
"""


class PolicyError(Exception):
    """Base of all policy errors.

    Attributes:
        code: Stable identifier.
        message: What is wrong, with which file.
        hint: What to do about it, or the empty string.
    """

    code = "E-POLICY"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class PolicyFileError(PolicyError):
    """A policy file is missing, malformed or contradicts another."""

    code = "E-POLICY-FILE"
