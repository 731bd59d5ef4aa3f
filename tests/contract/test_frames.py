"""The worker's writer and the host's reader agree, and so do the two on what comes back."""

import socket
from importlib import import_module
from typing import Any

import pytest

from executor.transfer.frames import FRAME_BYTES_MAX, Chunk, FrameDecoder, Message, encode_message

frames: Any = import_module("worker.frames")


def received(*actions: Any) -> list[Message | Chunk]:
    near, far = socket.socketpair()
    with near, far:
        found, decoder = [], FrameDecoder()
        for action in actions:
            action(far)
            found += decoder.feed(near.recv(1 << 16))
        return found


def test_what_the_worker_sends_the_host_reads() -> None:
    found = received(
        lambda s: frames.send_json(s, {"type": "progress", "values": {"loss": 0.25}}),
        lambda s: frames.send_bytes(s, memoryview(b"bytes")),
    )
    assert found == [Message({"type": "progress", "values": {"loss": 0.25}}), Chunk(b"bytes")]


def test_what_the_host_sends_the_worker_reads() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.sendall(encode_message({"kind": "train", "params": {"a": [1]}}))
        assert frames.receive_json(far) == {"kind": "train", "params": {"a": [1]}}


def test_the_worker_keeps_to_the_hosts_frame_limit() -> None:
    assert frames.CHUNK_BYTES <= FRAME_BYTES_MAX
    near, far = socket.socketpair()
    with near, far, pytest.raises(ValueError, match="over the frame limit"):
        frames.send_json(far, {"a": "x" * FRAME_BYTES_MAX})


def test_the_worker_refuses_to_send_what_the_host_would_refuse_to_read() -> None:
    near, far = socket.socketpair()
    with near, far, pytest.raises(ValueError, match="not JSON compliant"):
        frames.send_json(far, {"loss": float("nan")})


def test_a_worker_whose_host_is_gone_notices() -> None:
    near, far = socket.socketpair()
    near.close()
    with far, pytest.raises(EOFError):
        frames.receive_json(far)
