"""What a sample is, and how it is shown to fire: by a marker that it leaves when it is loaded without the gate."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MARKER = "/tmp/marker"
MARK = f"__import__('os').mkdir('{MARKER}')"
STAMP = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Sample:
    """One hostile or malformed artifact.

    Attributes:
        kind: Its class.
        name: What is wrong with it.
        data: Its bytes.
        load: Loads a file as a consumer would; the sample fires where that leaves the marker. None: nothing to show.
        ending: How a consumer would expect its name to end.
    """

    kind: str
    name: str
    data: bytes
    load: Callable[[Path], object] | None = None
    ending: str = ".bin"


def mark_where(differs: bool) -> None:
    """Leave the marker where two readers take one file for two."""
    if differs:
        Path(MARKER).mkdir(exist_ok=True)
