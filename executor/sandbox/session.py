"""One container from creation to removal: hands it its launch message, drains what it sends, and ends it in time.

The data path is a unix socket that the container sees read-only; the engine is not in it. The worker opens four
channels and then the listener closes, so that nothing else in the container can connect. Whatever happens, the
container is killed and removed before this module returns, and the socket is drained or shut before any kill.
"""

import os
import re
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from executor.errors import HostError, ImageMismatchError, JobError
from executor.sandbox.cgroup import Usage, read_usage
from executor.sandbox.config import ContainerRequest, Mount
from executor.sandbox.engine import Engine
from executor.sandbox.outcome import Outcome, RunFacts, Stop, classify
from executor.transfer.frames import Chunk, FrameDecoder, Message, encode_message
from executor.transfer.quarantine import LimitExceededError, Quarantine

SOCKET_TARGET = PurePosixPath("/run/executor/worker.sock")
_START_SECONDS_MAX = 60.0
_END_SECONDS_MAX = 15.0
_TICK_SECONDS = 0.25
_READ_BYTES = 1 << 18
_CHANNELS = (b"S", b"C", b"O", b"E")
_MESSAGES_MAX = 200_000
_MESSAGE_BYTES_MAX = 16 << 20  # of one run: what a job says must not grow without end either
_LOG_PIECE_BYTES = 1 << 16  # a log event waits for this much, or for the next look
_PROGRESS_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CPU_GRACE_SECONDS = 10


@dataclass(slots=True, kw_only=True)
class Listener:
    """What a session tells its caller while it runs. Both are called with the job's words: untrusted."""

    on_progress: Callable[[Mapping[str, float]], None] = field(default=lambda _: None)
    on_log: Callable[[str, bytes], None] = field(default=lambda _stream, _data: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run left behind.

    Attributes:
        outcome: How it ended.
        result: The worker's result message, or an empty mapping. Untrusted.
        usage: The kernel's counters.
        log_bytes: Bytes of stdout and stderr, together.
        output_bytes: Bytes of all outputs, as they were received.
        removed: Whether the container is gone; where not, a later sweep removes it.
        seconds: Wall time by stage: `create`, `start`, `run`, `remove`.
    """

    outcome: Outcome
    result: Mapping[str, Any]
    usage: Usage
    log_bytes: int
    output_bytes: int
    removed: bool
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """What the host enforces while it reads."""

    wall_seconds: float
    log_bytes: int


class Session:
    """One container and its channels.

    Args:
        engine: Where it runs.
        request: The container to create; the socket's mount is added here.
        folder: A private folder of this run for the socket.
        limits: What to enforce while reading.
        quarantine: Where outputs go.
        listener: Told of progress and log lines.
        cancelled: Asked several times a second whether to stop.
    """

    def __init__(
        self,
        engine: Engine,
        request: ContainerRequest,
        *,
        folder: Path,
        limits: SessionLimits,
        quarantine: Quarantine,
        listener: Listener,
        cancelled: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._limits = limits
        self._quarantine = quarantine
        self._listener = listener
        self._cancelled = cancelled
        mount = Mount(source=str(folder / "worker.sock"), target=SOCKET_TARGET)
        self._request = ContainerRequest(
            name=request.name, config=request.config, mounts=(*request.mounts, mount), labels=request.labels
        )
        self._channels: dict[bytes, socket.socket] = {}
        self._decoders = {b"S": FrameDecoder(), b"C": FrameDecoder()}
        self._stop: tuple[Stop, str] | None = None
        self._job_exit: tuple[int, int] | None = None
        self._result: dict[str, Any] | None = None
        self._error = ""
        self._usage = Usage()
        self._log_bytes = 0
        self._log_pieces = {"stdout": bytearray(), "stderr": bytearray()}
        self._removed = True
        self._messages = 0
        self._pid = 0

    def run(self, launch: dict[str, Any]) -> RunResult:
        """Run the container to its end.

        Args:
            launch: The message that tells the worker what to do.

        Raises:
            HostError: The engine failed, or the container did not come up.
            ImageMismatchError: The engine made the container of another image than was asked.
        """
        clock, seconds = time.monotonic, {}
        with ExitStack() as stack:
            server = stack.enter_context(_listen(self._folder))
            began = clock()
            # By name and before it exists: an answer that never comes may have made it all the same.
            stack.callback(self._remove)
            stack.callback(self._shut_channels)
            container = self._engine.create(self._request)
            seconds["create"], began = clock() - began, clock()
            self._check_image(container)
            self._engine.start(container)
            self._pid = self._engine.state(container).pid
            deadline = clock() + self._limits.wall_seconds
            self._accept(server, container, launch)
            seconds["start"], began = clock() - began, clock()
            self._serve(deadline)
            seconds["run"], began = clock() - began, clock()
            self._flush_logs()
            status, oom_killed = self._end(container)
            self._quarantine.close()
        seconds["remove"] = clock() - began
        stop, detail = self._stop or (None, "")
        facts = RunFacts(
            stop=stop,
            stop_detail=detail,
            job_exit=self._job_exit,
            container_status=status,
            oom_killed=oom_killed,
            usage=self._usage,
            error=self._error,
            finished=self._result is not None,
        )
        return RunResult(
            outcome=classify(facts),
            result=self._result or {},
            usage=self._usage,
            log_bytes=self._log_bytes,
            output_bytes=self._quarantine.bytes_received,
            removed=self._removed,
            seconds={name: round(value, 4) for name, value in seconds.items()},
        )

    def _check_image(self, container: str) -> None:
        state = self._engine.state(container)
        if state.image_id != self._request.config.image_id:
            raise ImageMismatchError(
                f"the engine made the container of {state.image_id}, asked was {self._request.config.image_id}"
            )

    def _accept(self, server: socket.socket, container: str, launch: dict[str, Any]) -> None:
        """Take the worker's channels. The first message to it goes out once it has opened the first one."""
        deadline = time.monotonic() + _START_SECONDS_MAX
        while len(self._channels) < len(_CHANNELS):
            try:
                stream, _ = server.accept()
            except TimeoutError:
                if self._cancelled():
                    self._stop = (Stop.CANCELLED, "")
                    return
                if not self._engine.state(container).running:
                    return  # it died before it spoke: its status says why
                if time.monotonic() > deadline:
                    raise HostError("the container did not come up in time") from None
                continue
            stream.settimeout(_END_SECONDS_MAX)
            channel = stream.recv(1)
            if channel not in _CHANNELS or channel in self._channels:
                stream.close()
                raise HostError("something in the container opened a channel that is not the worker's")
            self._channels[channel] = stream
            if channel == b"S":
                stream.sendall(encode_message(launch))
        server.close()

    def _serve(self, deadline: float) -> None:
        """Drain all channels until process 1 reports the job's end, all channels close, or the host stops it."""
        with selectors.DefaultSelector() as selector:
            for name, stream in self._channels.items():
                stream.setblocking(False)
                selector.register(stream, selectors.EVENT_READ, name)
            next_look = 0.0
            while self._stop is None and selector.get_map():
                now = time.monotonic()
                if now >= deadline:
                    self._stop = (Stop.WALL, f" of {self._limits.wall_seconds:g} s")
                    break
                if now >= next_look:
                    self._look()
                    next_look = now + _TICK_SECONDS
                for key, _ in selector.select(min(_TICK_SECONDS, deadline - now)):
                    stream = self._channels[key.data]
                    if not self._read(stream, key.data):
                        selector.unregister(stream)
                if self._job_exit is not None and not self._more_to_read(selector):
                    return

    def _look(self) -> None:
        """Check what no channel tells: a request to stop, and the kernel's counters."""
        self._flush_logs()
        if self._cancelled():
            self._stop = (Stop.CANCELLED, "")
            return
        usage = read_usage(self._pid)
        if usage != Usage():
            self._usage = usage
        if usage.pids_refused and self._job_exit is None:
            self._stop = (Stop.PIDS, f" of {self._request.config.pids}")

    def _more_to_read(self, selector: selectors.BaseSelector) -> bool:
        """After the job's end its own channels hold at most what the kernel still buffers."""
        return any(key.data != b"S" for key, _ in selector.select(0))

    def _read(self, stream: socket.socket, channel: bytes) -> bool:
        """Read once; False when the channel has ended."""
        try:
            data = stream.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        try:
            if channel in self._decoders:
                self._take_frames(channel, data)
            else:
                self._take_log("stdout" if channel == b"O" else "stderr", data)
        except LimitExceededError as err:
            self._stop = (Stop(err.limit), f": {err.message}")
        except JobError as err:
            self._stop = (Stop.PROTOCOL, f": {err.message}")
        return True

    def _take_log(self, stream: str, data: bytes) -> None:
        room = self._limits.log_bytes - self._log_bytes
        self._log_bytes += len(data)
        piece = self._log_pieces[stream]
        piece += data[: max(room, 0)]
        if len(piece) >= _LOG_PIECE_BYTES:
            self._flush_logs()
        if self._log_bytes > self._limits.log_bytes:
            raise LimitExceededError(f"more than {self._limits.log_bytes} bytes of output text", limit="log_bytes")

    def _flush_logs(self) -> None:
        for stream, piece in self._log_pieces.items():
            if piece:
                self._listener.on_log(stream, bytes(piece))
                piece.clear()

    def _take_frames(self, channel: bytes, data: bytes) -> None:
        for frame in self._decoders[channel].feed(data):
            if isinstance(frame, Chunk):
                if channel != b"C":
                    raise JobError("output bytes on the supervisor's channel")
                self._quarantine.write(frame.data)
            elif channel == b"S":
                self._take_supervisor(frame)
            else:
                self._take_control(frame)

    def _take_supervisor(self, frame: Message) -> None:
        if frame.value.get("type") != "exit":
            return
        code, number = frame.value.get("exit_code"), frame.value.get("signal")
        if not isinstance(code, int) or not isinstance(number, int):
            raise JobError("the supervisor's report has no status")
        self._usage = read_usage(self._pid)
        self._job_exit = (code, number)

    def _take_control(self, frame: Message) -> None:
        self._messages += 1
        if self._messages > _MESSAGES_MAX or self._decoders[b"C"].json_bytes > _MESSAGE_BYTES_MAX:
            raise JobError(f"more than {_MESSAGES_MAX} messages, or {_MESSAGE_BYTES_MAX} bytes of them")
        kind = frame.value.get("type")
        if kind == "progress":
            self._take_progress(frame.value.get("values"))
        elif kind == "output":
            self._quarantine.begin(frame.value)
        elif kind == "output-end":
            self._quarantine.end(frame.value)
        elif kind == "error":
            self._error = f"{frame.value.get('error')}: {frame.value.get('message')}"[:2000]
        elif kind == "result" and self._result is None and isinstance(frame.value.get("result"), dict):
            self._result = frame.value["result"]
        else:
            raise JobError(f"unexpected message: {str(kind)[:60]!r}")

    def _take_progress(self, values: object) -> None:
        if not isinstance(values, dict) or len(values) > 64:
            raise JobError("progress is not a small set of named numbers")
        for name, value in values.items():
            if not _PROGRESS_NAME.fullmatch(name) or not isinstance(value, (int, float)) or isinstance(value, bool):
                raise JobError("progress is not a small set of named numbers")
        self._listener.on_progress(values)

    def _end(self, container: str) -> tuple[int | None, bool]:
        """Let process 1 go, or kill it; return its status and whether the engine saw an OOM kill."""
        if self._job_exit is not None and self._stop is None:
            self._say_bye()
            if not self._engine.wait(container, seconds=_END_SECONDS_MAX):
                self._shut_channels()
                self._engine.kill(container)
        else:
            self._shut_channels()
            if self._stop is not None:
                self._engine.kill(container)
        if not self._engine.wait(container, seconds=_END_SECONDS_MAX):
            self._engine.kill(container)
            if not self._engine.wait(container, seconds=_END_SECONDS_MAX):
                raise HostError("a container did not end after it was killed", hint="see `executor doctor`")
        state = self._engine.state(container)
        return state.exit_code, state.oom_killed

    def _remove(self) -> None:
        """Remove the container. What became of the job is known by now and stays so if this fails."""
        try:
            self._engine.remove(self._request.name)
        except HostError:
            self._removed = False

    def _say_bye(self) -> None:
        try:
            self._channels[b"S"].setblocking(True)
            self._channels[b"S"].sendall(encode_message({"type": "bye"}))
        except OSError:
            pass  # it has gone already, which is what it was told to do

    def _shut_channels(self) -> None:
        for stream in self._channels.values():
            stream.close()
        self._channels.clear()


def cpu_seconds_backstop(cpus: float, wall_seconds: float) -> int:
    """Return an RLIMIT_CPU that no honest process within its wall limit can reach."""
    return int(max(1.0, cpus) * wall_seconds) + _CPU_GRACE_SECONDS


def _listen(folder: Path) -> socket.socket:
    """Listen on a socket in a folder whose path may be longer than a socket address can hold (unix(7): 108 bytes)."""
    path = folder / "worker.sock"
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        server.bind(f"/proc/self/fd/{descriptor}/worker.sock")
    finally:
        os.close(descriptor)
    path.chmod(0o666)  # the container's user connects; the folder itself is ours alone
    server.listen(8)
    server.settimeout(_TICK_SECONDS)
    return server
