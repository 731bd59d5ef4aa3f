"""The instructions of a pickle, without loading it and without a second copy of it in memory."""

import io
import pickletools
from collections.abc import Iterator
from typing import IO, Any, cast

from worker.inventory.report import Data

_COPIED_BYTES_MAX = 16 << 20  # up to here a copy is faster to read


def instructions(data: Data) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    """Yield opcode, argument and position of each instruction, as `pickletools.genops` does.

    Raises:
        ValueError, IndexError, KeyError, OverflowError: While iterating: not a readable pickle.
    """
    copied = len(data) <= _COPIED_BYTES_MAX
    return pickletools.genops(io.BytesIO(data) if copied else cast("IO[bytes]", _Mapped(memoryview(data))))


class _Mapped:
    """As much of a binary file over a mapped one as `pickletools` uses."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        part = bytes(self._data[self._position : self._position + size])
        self._position += len(part)
        return part

    def readline(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n") and (byte := self.read(1)):
            line += byte
        return bytes(line)
