"""A user of its own for every container: what the kernel counts by user, a job uses up for itself alone.

Descriptors in flight, watches, pipes and queued signals are counted by user ID for the whole machine: with one user
for all, 1,200 descriptors in flight broke the DataLoader of every other job (2026-11). A number is taken by a lock on
its byte of one file in the state directory, which the kernel frees where its holder dies, and by a label on the
container, which other state directories of the same engine see as well.
"""

import errno
import fcntl
import os
import re
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from executor.errors import HostError, RequestError, UnsupportedError, host_error

VARIABLE = "EXECUTOR_USERS"
LABEL_USER = "sealed-executor.user"
_COUNT_MIN = 64
_FIRST_MIN = 1000  # below are the system's own
_LAST_MAX = 2_147_352_575  # what is above some kernels and programs take for negative
_SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))  # subuid(5)
_MAPPED_MAX = 65_535  # what a user namespace of the engine's usually maps


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRange:
    """User IDs, and group IDs of the same numbers, that containers may have: both ends are among them."""

    first: int
    last: int

    def to_wire(self) -> list[int]:
        """Return the recorded form."""
        return [self.first, self.last]


# systemd's table of user IDs leaves these to nobody (UIDS-GIDS, 0x70000000 on).
DEFAULT = UserRange(first=1_879_048_192, last=1_879_048_192 + 65_535)


def configured(environment: Mapping[str, str] = os.environ) -> UserRange:
    """Return the range that `EXECUTOR_USERS` names, as `FIRST-LAST`, or the default.

    Raises:
        RequestError: It is none, is too small for many runs at once, or holds the system's own users.
    """
    text = environment.get(VARIABLE)
    if not text:
        return DEFAULT
    if not re.fullmatch(r"[0-9]{1,10}-[0-9]{1,10}", text):
        raise RequestError(f"{VARIABLE} is {text[:40]!r}", hint="name two numbers, such as 20000-59999")
    first, last = map(int, text.split("-"))
    found = UserRange(first=first, last=last)
    if found.first < _FIRST_MIN or found.last > _LAST_MAX or found.last - found.first < _COUNT_MIN - 1:
        raise RequestError(
            f"{VARIABLE} is {text}: no range of at least {_COUNT_MIN} from {_FIRST_MIN} to {_LAST_MAX}",
            hint="name two numbers, such as 20000-59999",
        )
    return found


def check_range(span: UserRange, *, user_namespace: bool) -> None:
    """Hold the range against what the host has given away.

    Args:
        span: The range.
        user_namespace: Whether the engine maps users (`userns-remap`, rootless): then the numbers are those within.

    Raises:
        UnsupportedError: Some of it is not there, or is somebody's subordinate users.
    """
    if user_namespace:
        if span.last > _MAPPED_MAX:
            raise UnsupportedError(
                f"the engine maps users, and none above {_MAPPED_MAX}: containers would not start",
                hint=f"set {VARIABLE} to a range within, such as 20000-59999",
            )
        return
    for path in _SUBORDINATE:
        for name, first, last in _subordinate(path):
            if first <= span.last and span.first <= last:
                raise UnsupportedError(
                    f"containers have users {span.first} to {span.last}, and {path} gives {first} to {last} to {name}",
                    hint=f"set {VARIABLE} to a range that nobody has",
                )


def _subordinate(path: Path) -> list[tuple[str, int, int]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        name, _, rest = line.strip().partition(":")
        first, _, count = rest.partition(":")
        if first.isdecimal() and count.isdecimal() and int(count):
            found.append((name, int(first), int(first) + int(count) - 1))
    return found


class UserLease:
    """A user ID that no other container of this state directory gets while this is held. Close it to give it back."""

    def __init__(self, number: int, descriptor: int) -> None:
        self.number = number
        self._descriptor = descriptor

    def close(self) -> None:
        """Give it back. The lock goes with the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def lease_user(path: Path, span: UserRange) -> UserLease:
    """Take a user ID out of a range: any that is free, so that two state directories seldom choose the same.

    Args:
        path: The file whose bytes stand for the numbers. It stays empty.
        span: The range.

    Raises:
        HostError: All are taken, or the file cannot be used.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise host_error(err, f"cannot take a user for a container: {path}") from err
    try:
        os.fchmod(descriptor, 0o600)
        size = span.last - span.first + 1
        start = secrets.randbelow(size)
        for step in range(size):
            number = span.first + (start + step) % size
            if _lock(descriptor, number):
                return UserLease(number, descriptor)
    except OSError as err:
        os.close(descriptor)
        raise host_error(err, f"cannot take a user for a container: {path}") from err
    os.close(descriptor)
    raise HostError(f"all {size} users for containers are taken", hint=f"set {VARIABLE} to a larger range")


def _lock(descriptor: int, number: int) -> bool:
    """Lock a byte for an open file description (fcntl(2), F_OFD_SETLK). Return whether it was free."""
    request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
    except OSError as err:
        if err.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True
