"""Errors of the image packages.

ImageError
├── LockError            the lock file is malformed or does not fit its definition
├── InputError           a locked input is missing, or not the bytes that the lock names
├── SourceError          apt, pip or a registry could not be reached or cannot give what is asked: worth a retry
├── StoreError           this machine's cache cannot be written to: worth a retry
├── UnsafeEntryError     an input holds something that no image of ours may hold
└── NotReproducedError   the build did not give the digests that the lock expects
"""


class ImageError(Exception):
    """Base of all image errors.

    Attributes:
        code: Stable identifier for callers.
        message: What happened, to what.
        hint: What to do about it, or the empty string.
    """

    code = "E-IMAGE"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class LockError(ImageError):
    """The lock file is malformed or does not fit its definition."""

    code = "E-IMAGE-LOCK"


class InputError(ImageError):
    """A locked input is missing, or its bytes are not those that the lock names."""

    code = "E-IMAGE-INPUT"


class SourceError(ImageError):
    """apt, pip or a registry could not be reached, or cannot give what is asked."""

    code = "E-IMAGE-SOURCE"


class StoreError(ImageError):
    """This machine's cache of inputs and layers cannot be written to."""

    code = "E-IMAGE-STORE"


class UnsafeEntryError(ImageError):
    """An input holds a path or a file type that no image of ours may hold."""

    code = "E-IMAGE-ENTRY"


class NotReproducedError(ImageError):
    """The build did not give the digests that the lock expects."""

    code = "E-IMAGE-NOT-REPRODUCED"
