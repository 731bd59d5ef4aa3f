"""One reading of a ZIP: refuse every archive that two readers could take for two different ones.

Python's zipfile finds the directory by its distance from the end and torch's miniz by its stated offset, so an archive
with two directories is two archives (measured 2026-11). Here the directory is where it says, ends where the end record
begins, and names members that fill the file from its first byte without a gap, each with equal local and central
headers.
Layout: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16.
"""

import struct
import zlib
from dataclasses import dataclass

from worker.inventory.report import Data

_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ZIP64 = struct.Struct("<2H2Q")
_STORED, _DEFLATED = 0, 8
_UTF8_FLAG = 0x800
_WIDE = 0xFFFFFFFF  # "see the zip64 field"
_MEMBERS_MAX = 10_000
# Of the external attributes, in the low half. torch 2.13 takes a member with the folder's bit for one that needs no
# reading, and hands out memory as it finds it (measured 2026-11).
_DOS_ATTRIBUTES = 0xFFFF
_HEAD_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_VERSION_MAX = 45  # "version needed to extract", for zip64: Python refuses what is beyond 63, others do not look


@dataclass(frozen=True, slots=True)
class Member:
    """One member.

    Attributes:
        head: Its content, in place; of one that is compressed, the first MiB at most.
        size: Bytes of the whole content, all of which its checksum was taken over.
    """

    head: memoryview
    size: int


def member_names(data: Data) -> list[str] | None:
    """Return the names that the directory of an archive has, unchecked; None where there is no plain directory."""
    try:
        count, size, position = _end_record(data)
        names, end = [], position + size
        for _ in range(count):
            length = _CENTRAL.unpack_from(data, position)[10]
            names.append(_name(bytes(data[position + _CENTRAL.size : position + _CENTRAL.size + length])))
            position += _CENTRAL.size + length
    except (ValueError, struct.error):
        return None
    return names if position == end else None


def read_members(data: Data, *, unpacked_bytes_max: int, deflated: bool) -> dict[str, Member]:
    """Return the members of a plain archive, in order.

    Args:
        data: The whole file.
        unpacked_bytes_max: Ceiling on all members together.
        deflated: Whether members may be compressed.

    Raises:
        ValueError: Anything but one plain, gapless, unencrypted archive; the message says what.
    """
    data = memoryview(data)
    count, size, start = _end_record(data)
    members: dict[str, Member] = {}
    position, offset, room = start, 0, unpacked_bytes_max
    for _ in range(count):
        if position + _CENTRAL.size > start + size:
            raise ValueError("directory is shorter than its count")
        entry = _CENTRAL.unpack_from(data, position)
        name_end = position + _CENTRAL.size + entry[10]
        raw_name = bytes(data[position + _CENTRAL.size : name_end])
        if entry[0] != b"PK\x01\x02" or entry[11] or entry[12] or entry[13] or entry[16] != offset:
            raise ValueError("directory entry has extra fields, a comment, another disk or a gap before its member")
        if entry[15] & _DOS_ATTRIBUTES:
            raise ValueError("member is marked as a folder, or with another attribute of DOS")
        name = _name(raw_name)
        if name in members:
            raise ValueError(f"member stands twice: {name}")
        members[name], offset = _member(data, entry, raw_name, offset, end=start, room=room, deflated=deflated)
        room -= members[name].size
        position = name_end
    if position != start + size or offset != start:
        raise ValueError("bytes that no member and no directory entry accounts for")
    return members


def _end_record(data: Data) -> tuple[int, int, int]:
    """Return count, size and start of the directory from the record in the last 22 bytes."""
    if len(data) < _END.size:
        raise ValueError("too short for an archive")
    mark, disk, first, here, count, size, start, comment = _END.unpack_from(data, len(data) - _END.size)
    if mark != b"PK\x05\x06" or disk or first or here != count or comment:
        raise ValueError("archive does not end in a plain end record")
    if start + size != len(data) - _END.size or count > _MEMBERS_MAX:
        raise ValueError("directory is not right before the end record, or has too many members")
    return count, size, start


def _member(
    data: memoryview, central: tuple[int, ...], raw_name: bytes, offset: int, *, end: int, room: int, deflated: bool
) -> tuple[Member, int]:
    """Return a member and where the next one must begin: at `end`, where the directory begins, or before it."""
    _, _, _, flags, method, _, _, crc, packed, unpacked = central[:10]
    local = _LOCAL.unpack_from(data, offset)
    name_end = offset + _LOCAL.size + local[9]
    if local[0] != b"PK\x03\x04" or data[offset + _LOCAL.size : name_end] != raw_name:
        raise ValueError("local header names another member than the directory")
    begin = name_end + local[10]
    if central[2] > _VERSION_MAX or local[1] > _VERSION_MAX:
        raise ValueError("member asks for a reader that there is not")
    sizes = _local_sizes(local, bytes(data[name_end:begin]))
    if (local[2], local[3], local[6], *sizes) != (flags, method, crc, packed, unpacked):
        raise ValueError("local header disagrees with the directory")
    if flags & ~_UTF8_FLAG or method not in ((_STORED, _DEFLATED) if deflated else (_STORED,)):
        raise ValueError("encrypted member, data descriptor, or a method that is not allowed")
    if unpacked > room or begin + packed > end:
        raise ValueError("members are larger than allowed, or reach into the directory")
    content = data[begin : begin + packed]
    head, size, found = (content, packed, zlib.crc32(content)) if method == _STORED else _unpack(content, unpacked)
    if size != unpacked or found != crc:
        raise ValueError("member is not what its header says")
    return Member(head, size), begin + packed


def _local_sizes(local: tuple[int, ...], extra: bytes) -> tuple[int, int]:
    """Numpy writes the sizes of every member in a zip64 field; nothing else has an extra field here."""
    packed, unpacked = local[7], local[8]
    if not extra:
        return packed, unpacked
    if len(extra) != _ZIP64.size:
        raise ValueError("extra field in a local header")
    tag, length, wide_unpacked, wide_packed = _ZIP64.unpack(extra)
    if (tag, length) != (1, 16) or (packed, unpacked) not in ((wide_packed, wide_unpacked), (_WIDE, _WIDE)):
        raise ValueError("extra field in a local header")
    return wide_packed, wide_unpacked


def _unpack(content: memoryview, size_max: int) -> tuple[memoryview, int, int]:
    """Return the first bytes, the size and the checksum of a compressed member, of which only a part is ever held."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    head, size, crc = bytearray(), 0, 0
    pending, rest = b"", content
    try:
        while not engine.eof and size <= size_max:
            if not pending:
                pending, rest = bytes(rest[:_CHUNK_BYTES]), rest[_CHUNK_BYTES:]
            part = engine.decompress(pending, _CHUNK_BYTES)
            pending = engine.unconsumed_tail
            head += part[: _HEAD_BYTES - len(head)]
            size, crc = size + len(part), zlib.crc32(part, crc)
            if not part and not pending and not rest:
                break
    except zlib.error as err:
        raise ValueError("compressed member is damaged") from err
    if not engine.eof or engine.unused_data or pending or rest:
        raise ValueError("compressed member does not end where its header says")
    return memoryview(head), size, crc


def _name(raw: bytes) -> str:
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError as err:
        raise ValueError("member name is not ASCII") from err
    parts = name.split("/")
    if any(p in ("", ".", "..") for p in parts) or "\\" in name or not name.isprintable():
        raise ValueError(f"member name is not a plain path: {name[:80]!r}")
    return name
