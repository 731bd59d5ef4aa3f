"""Process 1 of the container: starts the job as a child, watches deadline and host, reports how the child ended.

The kernel ignores SIGKILL and SIGSTOP sent to process 1 from inside its own pid namespace, and the seccomp profile
denies ptrace, so a job cannot stop this process. It never imports torch.
"""

import contextlib
import os
import select
import signal
import socket
import time
from typing import Any, NoReturn

from worker.frames import connect, receive_json, send_json

_GRACE_SECONDS = 15.0  # after the host's own limit: for when the host is gone
_BYE_SECONDS = 10.0


def main() -> NoReturn:
    """Run one job and exit as it did: its code, or 128 and the signal's number."""
    # Python would die of SIGINT; without a handler the kernel drops what the job sends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor = connect(b"S")
    send_json(supervisor, {"type": "ready", "protocol": 1})
    launch = receive_json(supervisor)
    channels = {name: connect(name) for name in (b"C", b"O", b"E")}
    waker = _child_waker()
    pid = os.fork()
    if pid == 0:
        supervisor.close()
        _become_job(launch, channels)
    for channel in channels.values():
        channel.close()
    status = _watch(pid, supervisor, waker, time.monotonic() + launch["wall_seconds_max"] + _GRACE_SECONDS)
    code, number = os.waitstatus_to_exitcode(status), 0
    if code < 0:
        code, number = 128 - code, -code
    send_json(supervisor, {"type": "exit", "exit_code": code, "signal": number})
    _wait_for_bye(supervisor)
    os._exit(code)


def _child_waker() -> socket.socket:
    """Return a socket that becomes readable when a child ends."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    return reader


def _watch(pid: int, supervisor: socket.socket, waker: socket.socket, deadline: float) -> int:
    """Reap children until the job's own process ends; give up where the host is gone or the deadline has passed."""
    poll = select.poll()
    poll.register(supervisor, select.POLLRDHUP | select.POLLHUP)
    poll.register(waker, select.POLLIN)
    while True:
        while (ended := _reap()) is not None:
            if ended[0] == pid:
                return ended[1]
        left = deadline - time.monotonic()
        if left <= 0:
            os._exit(124)
        for descriptor, _ in poll.poll(left * 1000):
            if descriptor == supervisor.fileno():
                os._exit(125)  # the executor died: take the container down with it
            waker.recv(4096)


def _reap() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _become_job(launch: dict[str, Any], channels: dict[bytes, socket.socket]) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(channels[b"O"].fileno(), 1)
        os.dup2(channels[b"E"].fileno(), 2)
        from worker.runner import run_job  # here, so that process 1 stays small

        code = run_job(launch, channels[b"C"])
    finally:
        os._exit(code)  # skips the interpreter's and torch's teardown: 0.4 s and more


def _wait_for_bye(supervisor: socket.socket) -> None:
    """Give the host time to read the cgroup before it goes away."""
    supervisor.settimeout(_BYE_SECONDS)
    with contextlib.suppress(EOFError, OSError):
        receive_json(supervisor)
