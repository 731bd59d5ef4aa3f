"""What an inspection is: what one clean container is asked about files, and how its answer is read.

The workers in these containers are trusted code, but they read hostile files: their word is parsed like anybody else's,
and a report that does not fit is the host's fault, which releases nothing. An inspection is one file here, and one in
`images/worker/procedures`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Report = Mapping[str, Any]  # of a worker, as it came: JSON
Text = Annotated[str, Field(max_length=2000)]
REASON_CHARACTERS_MAX = 300  # of why a container died, where that is reported of what it read
Found = TypeVar("Found", covariant=True)


class Strict(BaseModel):
    """A part of a report: no other fields, no other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Described(Protocol):
    """An artifact, as far as a decision needs it."""

    @property
    def name(self) -> str:
        """Its declared name."""

    @property
    def role(self) -> str:
        """Its declared role."""


class Inspection(Protocol[Found]):
    """One inspection."""

    kind: ClassVar[str]

    def params(self) -> Mapping[str, object]:
        """Return what the worker is told beside the files."""

    def parse(self, report: Report) -> Found:
        """Parse the worker's report.

        Raises:
            HostError: It does not fit, or is about other files.
        """

    def died(self, reason: str) -> Report:
        """Return the report that stands for a container that died on what it read: a denial of that."""
