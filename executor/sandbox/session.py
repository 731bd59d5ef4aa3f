"""One job in one slot, from its launch to the container's end: drains what it sends, watches it, and ends it in time.

Whatever happens, the container is on its way out before this module returns, and its channels are drained or shut
before any kill.
"""

import contextlib
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from executor.errors import HostError, JobError, host_error
from executor.sandbox.cgroup import Usage
from executor.sandbox.counters import Counters, Reading
from executor.sandbox.engine import Engine
from executor.sandbox.idleness import IdleClock
from executor.sandbox.intake import Intake, Listener
from executor.sandbox.outcome import Outcome, RunFacts, Stop, classify
from executor.sandbox.protocol import Channel, Launch
from executor.sandbox.slot import Slot, end_quietly
from executor.transfer.frames import encode_message
from executor.transfer.quarantine import LimitExceededError, Quarantine

_END_SECONDS_MAX = 15.0
_KILLED_SECONDS_MAX = 10.0
_TICK_SECONDS = 0.25
_READ_BYTES = 1 << 18
_CPU_GRACE_SECONDS = 10
# The temporary file system is measured after so many seconds in which the job computed for so long: what waits uses
# less, and is not woken for it.
_SAMPLE_SECONDS = 2.0
_SAMPLE_CPU_SECONDS = 0.02
# What taking a job's words in may cost this process: the dearest 200,000 messages and 16 MiB of them take 10 s, and an
# output is hashed and written at some 500 MiB/s (2026-11). A machine may be several times as slow.
_HOST_CPU_SECONDS = 60.0
_HOST_BYTES_PER_CPU_SECOND = 16 << 20
# A socket may hold a message whatever the limit of its cgroup is, and one that nobody has accepted yet holds it at
# nobody's charge: 20,000 of them took 1.3 GiB of the host's memory (cgroup v1, 2026-12-01).
TCP_SOCKETS_MAX = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run left behind.

    Attributes:
        outcome: How it ended.
        result: The worker's result message, or an empty mapping. Untrusted.
        usage: The kernel's counters.
        log_bytes: Bytes of stdout and stderr, together.
        output_bytes: Bytes of all outputs, as they were received.
        tmp_bytes: Most bytes in use on the temporary file system, as process 1 saw it at the end and every few seconds
            in which the job computed; None where it did not say.
        tmp_inodes: Most inodes there.
        idle_seconds: Longest time without a sign of life.
        host_cpu_seconds: CPU time of this process's thread while it took in what the container sent.
        host_cpu_seconds_max: What it may be; it grows with the bytes of outputs.
        tcp_sockets: Most TCP sockets that were seen; None where nobody counts them.
        warm: Whether the container had been ready before.
        host_config_sha256: What it was restricted to, as the engine says.
        removed: Whether the container is gone; None where that is left to the pool, False where a sweep must do it.
        seconds: Wall time by stage: `create`, `start`, `first` frame after the launch, `run`, `remove`.
    """

    outcome: Outcome
    result: Mapping[str, Any]
    usage: Usage
    log_bytes: int
    output_bytes: int
    tmp_bytes: int | None
    tmp_inodes: int | None
    idle_seconds: float
    host_cpu_seconds: float
    host_cpu_seconds_max: float
    tcp_sockets: int | None
    warm: bool
    host_config_sha256: str
    removed: bool | None
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """What the host enforces while it reads."""

    wall_seconds: float
    idle_seconds: float
    log_bytes: int


class Session:
    """One launch of one slot.

    Args:
        engine: Where its container runs.
        slot: The container. It is used up, whatever comes of it.
        limits: What to enforce while reading.
        quarantine: Where outputs go.
        listener: Told of progress and log lines.
        cancelled: Asked several times a second whether to stop.
        clock: A clock that never goes back, in seconds.
        cpu_clock: The CPU time of the calling thread, in seconds.
    """

    def __init__(
        self,
        engine: Engine,
        slot: Slot,
        *,
        limits: SessionLimits,
        quarantine: Quarantine,
        listener: Listener,
        cancelled: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._engine = engine
        self._slot = slot
        self._limits = limits
        self._quarantine = quarantine
        self._cancelled = cancelled
        self._intake = Intake(quarantine, listener, log_bytes_max=limits.log_bytes)
        self._stop: tuple[Stop, str] | None = None
        self._usage = Usage()
        self._clock, self._cpu_clock = clock, cpu_clock
        config = slot.request.config
        self._counters = Counters(engine, slot.container, slot.pid, guest_kernel=config.has_guest_kernel, clock=clock)
        self._idle = IdleClock(clock(), limit_seconds=limits.idle_seconds, cpus=config.cpus)
        self._is_launched = True
        self._window: Reading | None = None  # from where it is counted whether to measure the temporary file system
        self._first: float | None = None
        self._host_cpu_seconds = 0.0
        self._tcp_sockets: int | None = None

    def run(self, launch: Launch) -> RunResult:
        """Launch the job and see it to its end.

        Args:
            launch: What the worker is told to do.

        Raises:
            HostError: The engine failed, or the container did not end.
        """
        clock, seconds = self._clock, dict(self._slot.seconds)
        removed: bool | None = None
        with ExitStack() as stack:
            stack.callback(end_quietly, self._slot.lease)
            stack.callback(self._slot.shut)
            began = clock()
            self._idle.record_sign(began)
            self._launch(launch)
            cpu_began = self._cpu_clock()
            self._serve(began, cpu_began)
            self._host_cpu_seconds = self._cpu_clock() - cpu_began
            seconds["run"], ended = clock() - began, clock()
            self._intake.flush()
            status, oom_killed, is_over = self._end()
            self._quarantine.close()
            stack.pop_all()
            self._slot.shut()
            # What the engine did not end in time it would not remove either: it is owed, and nobody waits for it.
            removed = self._slot.lease.end() if is_over else self._slot.lease.leave()
            seconds["remove"] = clock() - ended
        if self._first is not None:
            seconds["first"] = self._first - began
        intake = self._intake
        stop, detail = self._stop or (None, "")
        facts = RunFacts(
            stop=stop,
            stop_detail=detail,
            job_exit=intake.job_exit,
            container_status=status,
            oom_killed=oom_killed,
            usage=self._usage,
            error=intake.error,
            finished=intake.result is not None,
        )
        return RunResult(
            outcome=classify(facts),
            result=intake.result or {},
            usage=self._usage,
            log_bytes=intake.log_bytes,
            output_bytes=self._quarantine.bytes_received,
            tmp_bytes=intake.tmp_peaks[0],
            tmp_inodes=intake.tmp_peaks[1],
            idle_seconds=round(self._idle.longest, 3),
            host_cpu_seconds=round(self._host_cpu_seconds, 3),
            host_cpu_seconds_max=round(self._host_cpu_seconds_max(), 3),
            tcp_sockets=self._tcp_sockets,
            warm=self._slot.warm,
            host_config_sha256=self._slot.host_config_sha256,
            removed=removed,
            seconds={name: round(value, 4) for name, value in seconds.items()},
        )

    def _launch(self, launch: Launch) -> None:
        try:
            for channel, message in launch.to_wire():
                self._slot.channels[channel].settimeout(_END_SECONDS_MAX)
                self._slot.channels[channel].sendall(encode_message(message))
        except (BrokenPipeError, ConnectionResetError):
            self._is_launched = False  # it died while it waited: its status says why
        except OSError as err:
            raise host_error(err, "a container could not be told what to run") from err

    def _host_cpu_seconds_max(self) -> float:
        return _HOST_CPU_SECONDS + self._quarantine.bytes_received / _HOST_BYTES_PER_CPU_SECOND

    def _serve(self, began: float, cpu_began: float) -> None:
        """Drain all channels until process 1 reports the job's end, all channels close, or the host stops it."""
        wall_seconds = self._limits.wall_seconds if self._is_launched else _END_SECONDS_MAX
        next_look, deadline = began + _TICK_SECONDS, began + wall_seconds
        with selectors.DefaultSelector() as selector:
            for name, stream in self._slot.channels.items():
                stream.setblocking(False)
                selector.register(stream, selectors.EVENT_READ, name)
            while self._stop is None and selector.get_map():
                now = self._clock()
                if now >= deadline and not self._is_launched:
                    raise HostError("a container could not be told what to run, and has not ended")
                if now >= deadline:
                    self._stop = (Stop.WALL, f" of {self._limits.wall_seconds:g} s")
                    break
                if now >= next_look:
                    self._look(selector)
                    next_look = now + _TICK_SECONDS
                    if self._cpu_clock() - cpu_began > self._host_cpu_seconds_max():
                        self._stop = self._stop or (
                            Stop.HOST_CPU,
                            f" for {self._host_cpu_seconds_max():.0f} s of CPU time",
                        )
                for key, _ in selector.select(min(next_look, deadline) - now):
                    if not self._read(self._slot.channels[key.data], key.data):
                        selector.unregister(key.fileobj)
                if self._intake.job_exit is not None and not self._more_to_read(selector):
                    return

    def _look(self, selector: selectors.BaseSelector) -> None:
        """Check what no channel tells: a request to stop, the kernel's counters, and whether the job does anything."""
        self._intake.flush()
        if self._cancelled():
            self._stop = (Stop.CANCELLED, "")
            return
        reading = self._counters.read()
        if reading is None:
            return
        self._usage = reading.usage
        if reading.job_cpu_seconds is not None:
            self._idle.record_cpu(reading.at, reading.job_cpu_seconds)
            self._sample_tmp(reading, reading.job_cpu_seconds)
            if self._idle.is_over and not selector.select(0):  # what waits to be read is a sign of life
                self._stop = (Stop.IDLE, f" for {self._limits.idle_seconds:g} s")
        if self._usage.pids_refused and self._intake.job_exit is None:
            self._stop = (Stop.PIDS, f" of {self._slot.request.config.pids}")
        if reading.tcp_sockets is not None:
            self._tcp_sockets = max(self._tcp_sockets or 0, reading.tcp_sockets)
            if reading.tcp_sockets > TCP_SOCKETS_MAX and self._intake.job_exit is None:
                self._stop = (Stop.TCP_SOCKETS, f" of {TCP_SOCKETS_MAX}")

    def _sample_tmp(self, reading: Reading, cpu_seconds: float) -> None:
        """Have process 1 measure the temporary file system after some seconds in which the job computed."""
        window = self._window
        if window is None or window.job_cpu_seconds is None:
            self._window = reading
        elif reading.at - window.at >= _SAMPLE_SECONDS:
            self._window = reading
            if cpu_seconds - window.job_cpu_seconds >= _SAMPLE_CPU_SECONDS:
                with contextlib.suppress(OSError):  # process 1 has gone, or does not read: the end says why
                    self._slot.channels[Channel.SUPERVISOR].send(encode_message({"type": "sample"}))

    def _more_to_read(self, selector: selectors.BaseSelector) -> bool:
        """After the job's end its own channels hold at most what the kernel still buffers."""
        return any(key.data is not Channel.SUPERVISOR for key, _ in selector.select(0))

    def _read(self, stream: socket.socket, channel: Channel) -> bool:
        """Read once; False when the channel has ended."""
        try:
            data = stream.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        now = self._clock()
        self._idle.record_sign(now)
        try:
            self._intake.take(channel, data)
        except LimitExceededError as err:
            self._stop = (Stop(err.limit), f": {err.message}")
        except JobError as err:
            self._stop = (Stop.PROTOCOL, f": {err.message}")
        if self._first is None and self._intake.frames:
            self._first = now
        if channel is Channel.SUPERVISOR and self._intake.job_exit is not None:
            last = self._counters.read(last=True)  # while process 1 still lives, and with it the cgroup
            self._usage = last.usage if last is not None else self._usage
        return True

    def _end(self) -> tuple[int | None, bool, bool]:
        """Let process 1 go, or kill it; return its status, whether the engine saw an OOM kill, and whether it is over.

        What the host stopped has ended for its reason, also where the engine does not answer, or the kernel takes its
        time: a job's processes can be busy in the kernel, where no signal reaches them.

        A warm container whose job has ended by itself is the pool's to end: process 1 has killed whatever the job had
        left and said how it ended, the kernel what it used, and its own status would add nothing.
        """
        engine, container = self._engine, self._slot.container
        if self._intake.job_exit is not None and self._stop is None:
            unclear = self._intake.job_exit[1] == signal.SIGKILL and self._usage.oom_kills is None
            oom_killed = unclear and self._slot.warm and engine.state(container).oom_killed
            if self._slot.warm:
                return None, oom_killed, True
            self._say_bye()
            ended = engine.wait(container, seconds=_END_SECONDS_MAX)
        elif self._stop is not None:
            self._slot.shut()
            with contextlib.suppress(HostError):
                engine.kill(container)
                if engine.wait(container, seconds=_KILLED_SECONDS_MAX):
                    state = engine.state(container)
                    return state.exit_code, state.oom_killed, True
            return None, False, False
        else:
            self._slot.shut()
            ended = engine.wait(container, seconds=_END_SECONDS_MAX)
        if not ended:
            self._slot.shut()
            engine.kill(container)
            if not engine.wait(container, seconds=_END_SECONDS_MAX):
                raise HostError("a container did not end after it was killed", hint="see `executor doctor`")
        state = engine.state(container)
        return state.exit_code, state.oom_killed, True

    def _say_bye(self) -> None:
        try:
            self._slot.channels[Channel.SUPERVISOR].setblocking(True)
            self._slot.channels[Channel.SUPERVISOR].sendall(encode_message({"type": "bye"}))
        except OSError:
            pass  # it has gone already, which is what it was told to do


def cpu_seconds_backstop(cpus: float, wall_seconds: float) -> int:
    """Return an RLIMIT_CPU that no honest process within its wall limit can reach."""
    return int(max(1.0, cpus) * wall_seconds) + _CPU_GRACE_SECONDS
