"""The wire format, worker side: frames over a unix stream socket.

A frame is one kind byte (`J` JSON object, `B` bytes of the open output), a 4-byte big-endian length, and the payload.
The reader on the host is `executor/transfer/frames.py`; `tests/contract/test_frames.py` holds both to one another.
"""

import json
import socket
import struct
from typing import Any

SOCKET_PATH = "/run/executor/worker.sock"
CHUNK_BYTES = 1 << 20
_JSON_BYTES_MAX = 1 << 20
_HEADER = struct.Struct(">cI")


def connect(channel: bytes) -> socket.socket:
    """Open one channel to the host: `S` supervisor, `C` control, `O` stdout, `E` stderr."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(SOCKET_PATH)
    stream.sendall(channel)
    return stream


def send_json(stream: socket.socket, message: dict[str, Any]) -> None:
    """Send one JSON frame.

    Raises:
        ValueError: The message is over 1 MiB, or holds NaN or infinity.
    """
    payload = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
    if len(payload) > _JSON_BYTES_MAX:
        raise ValueError(f"message of {len(payload)} bytes is over the frame limit of {_JSON_BYTES_MAX}")
    stream.sendall(_HEADER.pack(b"J", len(payload)) + payload)


def send_bytes(stream: socket.socket, chunk: bytes | memoryview) -> None:
    """Send one frame of output bytes, at most `CHUNK_BYTES` of them."""
    stream.sendall(_HEADER.pack(b"B", len(chunk)))
    stream.sendall(chunk)


def receive_json(stream: socket.socket) -> dict[str, Any]:
    """Receive one JSON frame.

    Raises:
        EOFError: The host closed the channel.
    """
    _, size = _HEADER.unpack(_receive_exactly(stream, _HEADER.size))
    message = json.loads(_receive_exactly(stream, size))
    if not isinstance(message, dict):
        raise ValueError("expected a JSON object from the host")
    return message


def _receive_exactly(stream: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = stream.recv(size - len(parts))
        if not part:
            raise EOFError("the host closed the channel")
        parts += part
    return bytes(parts)
