"""The decoder's border: whatever arrives, in whatever pieces, is a frame or a job's fault."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.errors import JobError
from executor.transfer.frames import FRAME_BYTES_MAX, Chunk, FrameDecoder, Message, encode_message


def frame(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">cI", kind, len(payload)) + payload


@given(st.lists(st.integers(1, 7), min_size=1), st.binary(min_size=1, max_size=40))
def test_pieces_of_any_size_give_the_same_frames(sizes: list[int], data: bytes) -> None:
    stream = frame(b"J", b'{"a":1}') + frame(b"B", data) + frame(b"J", b"{}")
    decoder, found, offset = FrameDecoder(), [], 0
    while offset < len(stream):
        step = sizes[offset % len(sizes)]
        found += decoder.feed(stream[offset : offset + step])
        offset += step
    assert found == [Message({"a": 1}), Chunk(data), Message({})]


def test_a_frame_of_the_largest_size_passes_and_one_byte_more_is_refused() -> None:
    assert FrameDecoder().feed(frame(b"B", bytes(FRAME_BYTES_MAX))) == [Chunk(bytes(FRAME_BYTES_MAX))]
    with pytest.raises(JobError, match="over the limit"):
        FrameDecoder().feed(struct.pack(">cI", b"B", FRAME_BYTES_MAX + 1))


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"1", b"{", b'{"a":NaN}', b'{"a":1e999}', b'{"a":' + b"9" * 20 + b"}", b"\xff", b'{"a":' * 9000],
)
def test_a_message_that_is_no_plain_object_is_refused(payload: bytes) -> None:
    with pytest.raises(JobError):
        FrameDecoder().feed(frame(b"J", payload))


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def test_nesting_up_to_the_limit_passes_and_one_deeper_is_refused() -> None:
    assert len(FrameDecoder().feed(frame(b"J", nested(32)))) == 1
    with pytest.raises(JobError, match="nested"):
        FrameDecoder().feed(frame(b"J", nested(33)))


def test_an_unknown_kind_of_frame_is_refused() -> None:
    with pytest.raises(JobError, match="unknown kind"):
        FrameDecoder().feed(frame(b"X", b""))


def test_a_message_encodes_to_what_the_decoder_reads() -> None:
    assert FrameDecoder().feed(encode_message({"b": [1, "ä"]})) == [Message(json.loads('{"b":[1,"ä"]}'))]
