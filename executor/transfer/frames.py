"""The wire format, host side: an incremental decoder for what a worker sends.

Untrusted: every byte. A frame's length is checked before anything is kept, so that memory is bounded by one frame.
The writer in the image is `images/worker/frames.py`.
"""

import json
import math
import struct
from dataclasses import dataclass
from typing import Any

from executor.errors import JobError

_HEADER = struct.Struct(">cI")
FRAME_BYTES_MAX = 1 << 20
_DEPTH_MAX = 32
_INTEGER_DIGITS_MAX = 19


@dataclass(frozen=True, slots=True)
class Message:
    """A JSON frame."""

    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A frame of output bytes."""

    data: bytes


class FrameDecoder:
    """Turns a byte stream into frames, whatever the pieces it arrives in.

    Attributes:
        json_bytes: Bytes of all messages so far.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.json_bytes = 0

    def feed(self, data: bytes) -> list[Message | Chunk]:
        """Take bytes and return the frames that they complete.

        Raises:
            JobError: An unknown kind, a frame over 1 MiB, an empty one, or JSON that is no plain object.
        """
        self._buffer += data
        frames: list[Message | Chunk] = []
        while len(self._buffer) >= _HEADER.size:
            kind, size = _HEADER.unpack_from(self._buffer)
            if kind not in (b"J", b"B"):
                raise JobError(f"unknown kind of frame: {kind!r}")
            if kind == b"B" and size == 0:
                raise JobError("empty frame of output bytes")
            if size > FRAME_BYTES_MAX:
                raise JobError(f"frame of {size} bytes is over the limit of {FRAME_BYTES_MAX}")
            end = _HEADER.size + size
            if len(self._buffer) < end:
                break
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            self.json_bytes += size if kind == b"J" else 0
            frames.append(Chunk(payload) if kind == b"B" else Message(_parse(payload)))
        return frames


def encode_message(value: dict[str, Any]) -> bytes:
    """Return a JSON frame for the worker."""
    payload = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return _HEADER.pack(b"J", len(payload)) + payload


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload, parse_constant=_refuse, parse_float=_finite, parse_int=_modest)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is JSON that strict readers refuse
    except (ValueError, RecursionError) as err:
        raise JobError("a message is not JSON") from err
    if not isinstance(value, dict):
        raise JobError("a message is not a JSON object")
    if _depth(value) > _DEPTH_MAX:
        raise JobError(f"a message is nested deeper than {_DEPTH_MAX}")
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"not JSON: {name}")


def _finite(text: str) -> float:
    """Refuse 1e999, which is JSON and would become infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("number is too large")
    return value


def _modest(text: str) -> int:
    """Refuse integers that no float and no database column could hold."""
    if len(text) > _INTEGER_DIGITS_MAX:
        raise ValueError("integer is too large")
    return int(text)


def _depth(value: object) -> int:
    deepest, level = 0, [value]
    while level and deepest <= _DEPTH_MAX:
        deepest += 1
        level = [
            inner
            for item in level
            if isinstance(item, (dict, list))
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return deepest
