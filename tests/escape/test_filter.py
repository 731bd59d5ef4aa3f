"""The system call filter by argument, measured from inside on every runtime: what is allowed is, what is not is not."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from executor.doctor.attempts import Attempt
from executor.doctor.battery import plan_attempt, run_attempt
from executor.run.containers import Context
from executor.sandbox.docker import DockerEngine
from executor.state.home import Home

pytestmark = pytest.mark.engine

# (call, its number, arguments). Names stand for what the probe has at hand.
Call = tuple[str, int, tuple[int | str, ...]]
ALLOWED: list[Call] = [
    ("socket UNIX", 41, (1, 2, 0)),
    ("socket TCP", 41, (2, 1 | 0o2000000, 6)),
    ("socketpair UNIX", 53, (1, 1, 0, "buffer")),
    ("setsockopt SO_REUSEADDR", 54, ("tcp", 1, 2, "one", 4)),
    ("setsockopt TCP_NODELAY", 54, ("tcp", 6, 1, "one", 4)),
    ("setsockopt IPV6_V6ONLY", 54, ("tcp6", 41, 26, "one", 4)),
    ("sendto", 44, ("pair", "one", 1, 0x4000, 0, 0)),
    ("sendmsg", 46, ("pair", "message", 0)),
    ("sendmmsg", 307, ("pair", "message", 1, 0)),
    ("fcntl F_GETFD", 72, ("file", 1, 0)),
    ("fcntl F_DUPFD_CLOEXEC", 72, ("file", 1030, 0)),
    ("ioctl FIONBIO", 16, ("tcp", 0x5421, "one")),
    ("prctl PR_SET_NAME", 157, (15, "buffer", 0, 0, 0)),
    ("setpriority of its own", 141, (0, 0, 5)),
    ("sched_setaffinity of its own", 203, (0, 128, "mask")),
    ("sched_setaffinity of a thread", 203, ("thread", 128, "mask")),
    ("prlimit64 of its own", 302, (0, 7, 0, "buffer")),
]
REFUSED: list[Call] = [
    ("socket NETLINK", 41, (16, 3, 0)),
    ("socket UDP", 41, (2, 2, 0)),
    ("socket MPTCP", 41, (2, 1, 262)),
    ("socketpair INET", 53, (2, 1, 0, "buffer")),
    ("setsockopt SO_ATTACH_FILTER", 54, ("tcp", 1, 26, "buffer", 16)),
    ("setsockopt IP_ADD_SOURCE_MEMBERSHIP", 54, ("tcp", 0, 39, "buffer", 12)),
    ("setsockopt TCP_ULP", 54, ("tcp", 6, 31, "buffer", 3)),
    ("sendto out of band", 44, ("pair", "one", 1, 1, 0, 0)),
    ("sendmsg out of band", 46, ("pair", "message", 1)),
    ("sendmmsg out of band", 307, ("pair", "message", 1, 1)),
    ("fcntl F_SETLK", 72, ("file", 6, "buffer")),
    ("fcntl F_OFD_SETLK", 72, ("file", 37, "buffer")),
    ("fcntl F_SETLEASE", 72, ("file", 1024, 1)),
    ("ioctl FIOASYNC", 16, ("tcp", 0x5452, "one")),
    ("prctl PR_SET_SECCOMP", 157, (22, 2, "buffer", 0, 0)),
    ("setpriority of process 1", 141, (0, 1, 19)),
    ("setpriority of the group", 141, (1, 0, 19)),
    ("sched_setaffinity of process 1", 203, (1, 128, "mask")),
    ("sched_setaffinity of process 1 in 64 bits", 203, ((1 << 32) + 1, 128, "mask")),
    ("prlimit64 of process 1", 302, (1, 7, 0, "buffer")),
]
PROBE = """
import ctypes, json, os, socket, struct, threading
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
mask, one = ctypes.create_string_buffer(128), ctypes.create_string_buffer(struct.pack('i', 1), 4)
mask[0] = sum(1 << n for n in os.sched_getaffinity(0) if n < 8)
buffer, message = ctypes.create_string_buffer(256), ctypes.create_string_buffer(64)
pair, wait = socket.socketpair(), threading.Event()
thread = threading.Thread(target=wait.wait)
thread.start()
tcp, tcp6 = socket.socket(), socket.socket(socket.AF_INET6)
file = open('/tmp/f', 'w')
memory = dict(mask=mask, one=one, buffer=buffer, message=message)
at_hand = {name: ctypes.addressof(value) for name, value in memory.items()}
at_hand |= dict(pair=pair[0].fileno(), thread=thread.native_id)
at_hand |= dict(tcp=tcp.fileno(), tcp6=tcp6.fileno(), file=file.fileno())
answers = {}
for name, number, arguments in json.loads(CALLS):
    words = [ctypes.c_long(at_hand.get(a, a)) for a in arguments] + [ctypes.c_long(0)] * (6 - len(arguments))
    answers[name] = ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *words) < 0 else 0
wait.set()
result = json.dumps(answers)
"""


def probe(home: Path, profile: str) -> dict[str, Any]:
    calls = json.dumps([*ALLOWED, *REFUSED])
    attempt = Attempt(name="probe", family="probe", code=f"CALLS = {calls!r}\n{PROBE}", reasons=())
    plan, context = plan_attempt(attempt, profile=profile), Context(home=Home(home), engine=DockerEngine())
    result, sent = run_attempt(attempt, plan, image_id=plan.job.image_id, context=context)
    assert sent, result.outcome.reason
    document: dict[str, Any] = json.loads(sent)
    return document


@pytest.mark.parametrize("profile", ["standard", "crun", "gvisor"])
def test_of_each_call_that_is_filtered_by_argument_one_is_allowed_and_one_refused(home: Path, profile: str) -> None:
    answers = probe(home, profile)
    refused = {name for name, _, _ in ALLOWED if answers[name] == errno.EPERM}
    allowed = {name for name, _, _ in REFUSED if answers[name] != errno.EPERM}
    assert (refused, allowed) == (set(), set()), answers
    assert {name for name, _, _ in ALLOWED if answers[name] != 0} == set(), answers
