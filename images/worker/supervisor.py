"""Process 1 of the container: starts the job as a child, watches deadline and host, reports how the child ended.

The kernel drops every signal that process 1 has no handler for when it comes from inside its own pid namespace, the
seccomp profile denies ptrace and other processes' limits, and this process is not dumpable, so a job cannot stop or
rewrite it. It never imports torch.

A container that is kept warm goes the same way as any other, and stops half-way: its child has imported what its kind
of job needs and blocks, this process blocks as well, and neither uses the CPU until the host sends the launch or hangs
up, or the lease is over.

While the job runs this process blocks too: only a child's end and the host wake it. What a job that waits uses is then
the job's own, and the host can tell whether it is idle.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from worker.frames import connect, receive_json, send_json

PROTOCOL = 4
UNCONNECTED = 122
_GRACE_SECONDS = 15.0  # after the host's own limit: for when the host is gone
_BYE_SECONDS = 10.0
_REAPED_AT_ONCE_MAX = 64
_PR_SET_DUMPABLE = 4  # prctl(2)
_TMP = "/tmp"
_IGNORED = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}


def main() -> NoReturn:
    """Run one job and exit as it did: its code, or 128 and the signal's number."""
    _close_to_the_job()
    supervisor = _first_connection()
    send_json(supervisor, {"type": "ready", "protocol": PROTOCOL})
    prepare = receive_json(supervisor)
    channels = {name: connect(name) for name in (b"C", b"O", b"E")}
    reader, writer = _child_waker()
    if prepare["egress"]:
        _start_relay([supervisor, reader, writer, *channels.values()])
    pid = os.fork()
    if pid == 0:
        for stream in (supervisor, reader, writer):
            stream.close()
        _become_job(prepare, channels)
    for channel in channels.values():
        channel.close()
    watch = _Watch(pid, supervisor, reader)
    watch.wait_for_launch(time.monotonic() + prepare["lease_seconds"])
    status = watch.until_job_ends()
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # nothing that the job started outlives it
    code, number = os.waitstatus_to_exitcode(status), 0
    if code < 0:
        code, number = 128 - code, -code
    send_json(supervisor, {"type": "exit", "exit_code": code, "signal": number, **watch.tmp_peaks()})
    _wait_for_bye(supervisor)
    os._exit(code)


def _first_connection() -> socket.socket:
    """Connect to the host. Where it cannot be found, the engine mounted another folder than the one it listens in."""
    try:
        return connect(b"S")
    except OSError:
        os._exit(UNCONNECTED)


def _close_to_the_job() -> None:
    """Shut the ways in which a process of the same user could reach into this one.

    A process that is not dumpable gives nobody its /proc/1/mem and /proc/1/fd. The engine's own pipes would be a way
    to print past the limit. Signals without a handler are dropped by the kernel when they come from the job; Python
    brings a handler for SIGINT, and gVisor drops none, so all that can be are ignored.
    """
    _set_dumpable(0)
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)


def _set_dumpable(value: int) -> None:
    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, value, 0, 0, 0) != 0:
        os._exit(1)


def _child_waker() -> tuple[socket.socket, socket.socket]:
    """Return two ends of a pair of which the first becomes readable when a child ends."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    return reader, writer


class _Watch:
    """What process 1 looks at while the job's process lives."""

    def __init__(self, pid: int, supervisor: socket.socket, waker: socket.socket) -> None:
        self._pid = pid
        self._supervisor = supervisor
        self._waker = waker
        self._deadline = 0.0
        self._status: int | None = None
        self._tmp = [0, 0]

    def wait_for_launch(self, lease_end: float) -> None:
        """Block until the host says go, and take the job's deadline from what it says."""
        poll = select.poll()
        poll.register(self._supervisor, select.POLLIN | select.POLLRDHUP | select.POLLHUP)
        poll.register(self._waker, select.POLLIN)
        while self._status is None:
            left = lease_end - time.monotonic()
            if left <= 0:
                os._exit(126)
            for descriptor, events in poll.poll(left * 1000):
                if descriptor != self._supervisor.fileno():
                    self._look_after_children()
                elif events & select.POLLIN:
                    with _or_exit(125):
                        launch = receive_json(self._supervisor)
                    self._deadline = time.monotonic() + launch["wall_seconds_max"] + _GRACE_SECONDS
                    return
                else:
                    os._exit(125)  # the executor died: take the container down with it

    def until_job_ends(self) -> int:
        """Reap children until the job's own process ends; give up where the host is gone or the deadline has passed.

        Both are looked at between any few children, however many the job throws at this process. The host says when to
        measure the temporary file system, because it sees for free whether the job computes.
        """
        poll = select.poll()
        poll.register(self._supervisor, select.POLLIN | select.POLLRDHUP | select.POLLHUP)
        poll.register(self._waker, select.POLLIN)
        while self._status is None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                os._exit(124)
            more = self._look_after_children()
            if self._status is not None:
                break
            for descriptor, events in poll.poll(0 if more else left * 1000):
                if descriptor != self._supervisor.fileno():
                    continue
                if events != select.POLLIN:
                    os._exit(125)
                with _or_exit(125):
                    receive_json(self._supervisor)  # the one request that there is
                self._sample_tmp()
        self._sample_tmp()
        return self._status

    def tmp_peaks(self) -> dict[str, int]:
        """Return the most bytes and inodes that were seen in use on the temporary file system."""
        return {"tmp_bytes": self._tmp[0], "tmp_inodes": self._tmp[1]}

    def _look_after_children(self) -> bool:
        """Reap a few; return whether there may be more."""
        with contextlib.suppress(BlockingIOError):
            self._waker.recv(4096)
        for _ in range(_REAPED_AT_ONCE_MAX):
            ended = _reap()
            if ended is None:
                return False
            if ended[0] == self._pid:
                self._status = ended[1]
                return False
        return True

    def _sample_tmp(self) -> None:
        seen = os.statvfs(_TMP)
        self._tmp[0] = max(self._tmp[0], (seen.f_blocks - seen.f_bfree) * seen.f_frsize)
        self._tmp[1] = max(self._tmp[1], seen.f_files - seen.f_ffree)


@contextlib.contextmanager
def _or_exit(code: int) -> Iterator[None]:
    """Exit where the host hangs up."""
    try:
        yield
    except (EOFError, OSError):
        os._exit(code)


def _reap() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _start_relay(ours: list[socket.socket]) -> None:
    """Fork the process that the job's connections go through, if it may have any.

    What hurts it hurts the job alone: it holds nothing that leads to the host but the way out.
    """
    from worker.relay import listen_for_job, serve_job

    server = listen_for_job()
    if os.fork() == 0:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for stream in ours:
                stream.close()
            serve_job(server)
        finally:
            os._exit(1)
    server.close()


def _become_job(prepare: dict[str, Any], channels: dict[bytes, socket.socket]) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        _set_dumpable(1)  # its own /proc/self is the job's to use
        for number in (*_IGNORED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # as Python has them
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(channels[b"O"].fileno(), 1)
        os.dup2(channels[b"E"].fileno(), 2)
        from worker.runner import run_job  # here, so that process 1 stays small

        code = run_job(prepare, channels[b"C"])
    finally:
        os._exit(code)  # skips the interpreter's and torch's teardown: 0.4 s and more


def _wait_for_bye(supervisor: socket.socket) -> None:
    """Give the host time to read the cgroup before it goes away. A request that crossed the report is passed over."""
    supervisor.settimeout(_BYE_SECONDS)
    with contextlib.suppress(EOFError, OSError):
        while receive_json(supervisor)["type"] != "bye":
            pass
