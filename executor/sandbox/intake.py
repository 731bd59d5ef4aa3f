"""What a running container says, taken in: frames and text, held against the limits, byte for byte untrusted."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from executor.errors import JobError
from executor.sandbox.protocol import Channel
from executor.transfer.frames import Chunk, FrameDecoder, Message
from executor.transfer.quarantine import LimitExceededError, Quarantine

_MESSAGES_MAX = 200_000
_MESSAGE_BYTES_MAX = 16 << 20  # of one run: what a job says must not grow without end either
_LOG_PIECE_BYTES = 1 << 16  # a log event waits for this much, or for the next look
PROGRESS_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ERROR_CHARACTERS_MAX = 2000
_STREAMS = {Channel.STDOUT: "stdout", Channel.STDERR: "stderr"}


@dataclass(slots=True, kw_only=True)
class Listener:
    """What a session tells its caller while it runs. Both are called with the job's words: untrusted."""

    on_progress: Callable[[Mapping[str, float]], None] = field(default=lambda _: None)
    on_log: Callable[[str, bytes], None] = field(default=lambda _stream, _data: None)


class Intake:
    """Takes what the channels bring.

    Args:
        quarantine: Where outputs go.
        listener: Told of progress and text.
        log_bytes_max: Ceiling on stdout and stderr together.

    Attributes:
        job_exit: Exit code and signal of the job's process, once process 1 has reported them.
        result: The job's result message, once it has come.
        error: Type and message of what the job raised.
        log_bytes: Bytes of text so far.
        tmp_peaks: Bytes and inodes of the temporary file system, as process 1 saw them.
        frames: Frames on the job's own channel so far.
    """

    def __init__(self, quarantine: Quarantine, listener: Listener, *, log_bytes_max: int) -> None:
        self._quarantine = quarantine
        self._listener = listener
        self._log_bytes_max = log_bytes_max
        self._decoders = {Channel.SUPERVISOR: FrameDecoder(), Channel.CONTROL: FrameDecoder()}
        self._log_pieces = {name: bytearray() for name in _STREAMS.values()}
        self._messages = 0
        self.job_exit: tuple[int, int] | None = None
        self.result: dict[str, Any] | None = None
        self.error = ""
        self.log_bytes = 0
        self.tmp_peaks: tuple[int | None, int | None] = (None, None)
        self.frames = 0

    def take(self, channel: Channel, data: bytes) -> None:
        """Take the next bytes of a channel.

        Raises:
            LimitExceededError: More text or outputs than allowed.
            JobError: Not the protocol.
        """
        if channel in self._decoders:
            self._take_frames(channel, data)
        else:
            self._take_log(_STREAMS[channel], data)

    def flush(self) -> None:
        """Tell the listener of the text that waits."""
        for stream, piece in self._log_pieces.items():
            if piece:
                self._listener.on_log(stream, bytes(piece))
                piece.clear()

    def _take_log(self, stream: str, data: bytes) -> None:
        room = self._log_bytes_max - self.log_bytes
        self.log_bytes += len(data)
        piece = self._log_pieces[stream]
        piece += data[: max(room, 0)]
        if len(piece) >= _LOG_PIECE_BYTES:
            self.flush()
        if self.log_bytes > self._log_bytes_max:
            raise LimitExceededError(f"more than {self._log_bytes_max} bytes of output text", limit="log_bytes")

    def _take_frames(self, channel: Channel, data: bytes) -> None:
        for frame in self._decoders[channel].feed(data):
            if isinstance(frame, Chunk):
                if channel is not Channel.CONTROL:
                    raise JobError("output bytes on the supervisor's channel")
                self._quarantine.write(frame.data)
            elif channel is Channel.SUPERVISOR:
                self._take_supervisor(frame)
            else:
                self._take_control(frame)

    def _take_supervisor(self, frame: Message) -> None:
        if frame.value.get("type") != "exit":
            return
        code, number = _count(frame.value.get("exit_code")), _count(frame.value.get("signal"))
        if code is None or number is None:
            raise JobError("the supervisor's report has no status")
        self.job_exit = (code, number)
        self.tmp_peaks = (_count(frame.value.get("tmp_bytes")), _count(frame.value.get("tmp_inodes")))

    def _take_control(self, frame: Message) -> None:
        self._messages += 1
        if self._messages > _MESSAGES_MAX or self._decoders[Channel.CONTROL].json_bytes > _MESSAGE_BYTES_MAX:
            raise JobError(f"more than {_MESSAGES_MAX} messages, or {_MESSAGE_BYTES_MAX} bytes of them")
        kind = frame.value.get("type")
        if kind == "progress":
            self._take_progress(frame.value.get("values"))
        elif kind == "output":
            self._quarantine.begin(frame.value)
        elif kind == "output-end":
            self._quarantine.end(frame.value)
        elif kind == "error":
            self.error = f"{frame.value.get('error')}: {frame.value.get('message')}"[:_ERROR_CHARACTERS_MAX]
        elif kind == "result" and self.result is None and isinstance(frame.value.get("result"), dict):
            self.result = frame.value["result"]
        else:
            raise JobError(f"unexpected message: {str(kind)[:60]!r}")
        self.frames += 1

    def _take_progress(self, values: object) -> None:
        if not isinstance(values, dict) or len(values) > 64:
            raise JobError("progress is not a small set of named numbers")
        for name, value in values.items():
            if not PROGRESS_NAME.fullmatch(name) or not isinstance(value, (int, float)) or isinstance(value, bool):
                raise JobError("progress is not a small set of named numbers")
        self._listener.on_progress(values)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
