"""An ONNX file without the bytes of its large tensors: all else that it holds is then quickly looked at.

Protobuf is walked down one path, ModelProto.graph (7), GraphProto.initializer (5), TensorProto.raw_data (9); the
rest is copied as it is. Lengths on that path must be spelt in as few bytes as they take. So a file is in protobuf's one
deterministic spelling if and only if its skeleton is.
Wire format: protobuf.dev/programming-guides/encoding, read 2026-11.
"""

from collections.abc import Iterator

from worker.inventory.report import Data

_LARGE_BYTES = 4096
_KEPT_BYTES = 16
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9


def skeleton(data: Data) -> bytes:
    """Return the file with all but the first bytes of each large tensor left out.

    Raises:
        ValueError: The path to the tensors is not plain protobuf, or not in its shortest spelling.
    """
    return _without(memoryview(data), (_GRAPH, _INITIALIZER, _RAW_DATA))


def _without(message: memoryview, path: tuple[int, ...]) -> bytes:
    """Copy a message, following one path of field numbers to the bytes that are to be cut."""
    out = bytearray()
    for number, wire, start, inside, end in _fields(message):
        payload = message[inside:end]
        if number != path[0] or wire != _LENGTH or len(payload) <= _LARGE_BYTES:
            out += message[start:end]
            continue
        key = bytes([number << 3 | wire])
        if message[start:inside] != key + _varint_bytes(len(payload)):
            raise ValueError("a field is not in its shortest spelling")
        short = bytes(payload[:_KEPT_BYTES]) if len(path) == 1 else _without(payload, path[1:])
        out += key + _varint_bytes(len(short)) + short
    return bytes(out)


def _fields(message: memoryview) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield number, wire type, and where the field, its payload and its end lie."""
    position = 0
    while position < len(message):
        start = position
        key, position = _varint(message, position)
        wire, inside = key & 7, position
        if wire == _VARINT:
            _, position = _varint(message, position)
        elif wire == _LENGTH:
            length, inside = _varint(message, position)
            position = inside + length
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("a wire type that ONNX does not use")
        if position > len(message):
            raise ValueError("a field reaches beyond its message")
        yield key >> 3, wire, start, inside, position


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value, shift = 0, 0
    while position < len(message) and shift < 64:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number that does not end")


def _varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
