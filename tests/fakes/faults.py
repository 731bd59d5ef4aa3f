"""System calls that fail at a seeded place: which, and the library that makes them."""

import errno
import random
import subprocess
from pathlib import Path

KINDS = ("open", "write", "fsync", "rename", "close", "send", "mkdir")
# The empty name stands for SIGKILL.
ERRORS = {
    "open": ("ENOSPC", "EIO", "EMFILE", "EINTR", ""),
    "write": ("ENOSPC", "EIO", "EPIPE", "EINTR", ""),
    "fsync": ("ENOSPC", "EIO", "EINTR", ""),
    "rename": ("ENOSPC", "EIO", ""),
    "close": ("EIO", "ENOSPC", ""),
    "send": ("EPIPE", "EIO", "EINTR", ""),
    "mkdir": ("ENOSPC", "EIO", ""),
}
_SOURCE = Path(__file__).with_name("faults.c")


def build(folder: Path) -> Path:
    """Compile the library that is loaded before the C library."""
    built = folder / "faults.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(built), str(_SOURCE), "-ldl"], check=True)
    return built


def seeded(number: int, seen: dict[str, int]) -> tuple[str, int, str]:
    """Choose a kind of call, which of them fails, and the name of its error.

    Args:
        number: The seed.
        seen: How often a run without a fault makes each kind of call.
    """
    chosen = random.Random(number)
    kind = chosen.choice([kind for kind in KINDS if seen[kind]])
    return kind, chosen.randrange(seen[kind]), chosen.choice(ERRORS[kind])


def number_of(error: str) -> int:
    """Return the number of an error; 0 where its name stands for SIGKILL."""
    return getattr(errno, error) if error else 0
