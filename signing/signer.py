"""What signs: one port, three trust modes behind it. What each proves is in signing/README.md."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from signing.bundle import Bundle
from signing.evidence import Expectations
from signing.statement import Statement


class Signer(Protocol):
    """Signs statements, and knows what its signatures are verified by."""

    @property
    def mode(self) -> str:
        """Trust mode: `local`, `keyless` or `key`."""

    def sign(self, statements: Sequence[Statement], *, now: datetime) -> list[Bundle]:
        """Sign statements, all of them or none.

        Raises:
            SigningError: They could not be signed.
        """

    def expectations(self) -> Expectations:
        """Return what a verifier insists on that trusts this signer and nobody else.

        Raises:
            SigningError: It cannot be told.
        """
