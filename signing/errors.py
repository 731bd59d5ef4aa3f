"""Errors of the signing package.

SigningError
├── TrustDomainError     the local trust domain cannot be made, read or used
├── TrustRequestError    what is asked of it cannot be done as it is asked
└── VerificationError    evidence does not hold; names the check and the file
"""


class SigningError(Exception):
    """Base of all signing errors.

    Attributes:
        code: Stable identifier.
        message: What happened, to what.
        hint: What to do about it, or the empty string.
    """

    code = "E-SIGNING"
    run_id = ""  # set by who knows of a run
    record = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class TrustDomainError(SigningError):
    """The local trust domain cannot be made, read or used."""

    code = "E-TRUST-DOMAIN"


class TrustRequestError(SigningError):
    """What is asked of those who sign makes no sense: no such epoch, no such key, another mode already."""

    code = "E-TRUST-REQUEST"


class VerificationError(SigningError):
    """Evidence does not hold.

    Attributes:
        check: Stable identifier of the check that failed.
        file: The file that it failed on, relative to the release.
    """

    code = "E-VERIFICATION"

    def __init__(self, message: str, *, check: str, file: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.check = check
        self.file = file
