"""A strict reader of DER (X.690): one form for each value, definite lengths, nothing left over.

Verification reads the few structures that it needs with this and not with a general X.509 library, because importing
one costs more CPU time than all the checks of a release (75 of 97 ms, measured 2026-11-24). Whatever is not understood
is refused; the tests hold it against `cryptography`'s parser.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTF8_STRING, PRINTABLE_STRING, UTC_TIME, GENERALIZED_TIME = 0x0C, 0x13, 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31
_LENGTH_BYTES_MAX = 4
_OID_BYTES_MAX = 64  # reading one takes time by the square of its length


class Element:
    """One DER value.

    Attributes:
        tag: Its identifier octet. Tags of more octets are refused.
        content: Its content octets.
        whole: All of its octets.
    """

    __slots__ = ("content", "tag", "whole")

    def __init__(self, tag: int, content: bytes, whole: bytes) -> None:
        self.tag = tag
        self.content = content
        self.whole = whole

    def children(self) -> list["Element"]:
        """Return the values that a constructed one holds.

        Raises:
            ValueError: It is not constructed, or does not hold whole values.
        """
        if not self.tag & 0x20:
            raise ValueError("DER value is not constructed")
        return list(_elements(self.content))


def read(data: bytes, tag: int) -> Element:
    """Read the one value that bytes hold.

    Raises:
        ValueError: They hold another one, more, or none.
    """
    elements = list(_elements(data))
    if len(elements) != 1:
        raise ValueError("not one DER value")
    return expect(elements[0], tag)


def expect(element: Element, tag: int) -> Element:
    """Return a value that must be of a kind.

    Raises:
        ValueError: It is of another.
    """
    if element.tag != tag:
        raise ValueError("DER value is of another kind")
    return element


def oid(element: Element) -> str:
    """Return an object identifier in dotted form."""
    content = expect(element, OID).content
    if not content or content[-1] & 0x80 or len(content) > _OID_BYTES_MAX:
        raise ValueError("DER object identifier is malformed")
    numbers, value, fresh = [], 0, True
    for byte in content:
        if fresh and byte == 0x80:
            raise ValueError("DER object identifier has leading zeros")
        value = value << 7 | byte & 0x7F
        fresh = not byte & 0x80
        if fresh:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(str(n) for n in (first, numbers[0] - 40 * first, *numbers[1:]))


def integer(element: Element) -> int:
    """Return an integer that is not negative."""
    content = expect(element, INTEGER).content
    if not content or content[0] & 0x80 or (len(content) > 1 and content[0] == 0 and not content[1] & 0x80):
        raise ValueError("DER integer is negative or not in its shortest form")
    return int.from_bytes(content, "big")


def boolean(element: Element) -> bool:
    """Return a boolean."""
    content = expect(element, BOOLEAN).content
    if content not in (b"\x00", b"\xff"):
        raise ValueError("DER boolean is malformed")
    return content == b"\xff"


def bits(element: Element) -> bytes:
    """Return a bit string of whole octets."""
    content = expect(element, BIT_STRING).content
    if not content or content[0] != 0:
        raise ValueError("DER bit string is not of whole octets")
    return content[1:]


def time(element: Element) -> datetime:
    """Return a point in time as certificates have it (RFC 5280, section 4.1.2.5)."""
    text = element.content.decode("ascii")
    if element.tag == UTC_TIME and len(text) == 13:
        text = ("19" if text >= "50" else "20") + text
    elif element.tag != GENERALIZED_TIME or len(text) != 15:
        raise ValueError("DER time is malformed")
    if not text[:-1].isdigit() or text[-1] != "Z":
        raise ValueError("DER time is malformed")
    year, month, day, hour, minute, second = int(text[:4]), *(int(text[at : at + 2]) for at in range(4, 14, 2))
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def encode(tag: int, content: bytes) -> bytes:
    """Return a DER value."""
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def _elements(data: bytes) -> Iterator[Element]:
    position = 0
    while position < len(data):
        start, content, end = _bounds(data, position)
        yield Element(data[start], data[content:end], data[start:end])
        position = end


def _bounds(data: bytes, start: int) -> tuple[int, int, int]:
    """Return where a value starts, where its content starts, and where it ends."""
    if start + 2 > len(data) or data[start] & 0x1F == 0x1F:
        raise ValueError("DER value is cut off, or its tag has more than one octet")
    length, content = data[start + 1], start + 2
    if length & 0x80:
        count = length & 0x7F
        octets = data[content : content + count]
        if not 1 <= count <= _LENGTH_BYTES_MAX or len(octets) < count or octets[0] == 0:
            raise ValueError("DER length is malformed")
        length, content = int.from_bytes(octets, "big"), content + count
        if length < 0x80:
            raise ValueError("DER length is not in its shortest form")
    if content + length > len(data):
        raise ValueError("DER value is cut off")
    return start, content, content + length
