"""Encodings with one form only: what decodes must encode back to the same bytes, so that nothing can vary unseen."""

import binascii
import hashlib
import json
from typing import Any


def canonical_json(value: object) -> bytes:
    """Return JSON with sorted keys, no spaces and no NaN, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def parse_json(data: bytes) -> Any:
    """Parse JSON whose form somebody else checks.

    Raises:
        ValueError: It is none.
    """
    try:
        return json.loads(data)
    except RecursionError as err:
        raise ValueError("JSON is nested too deep") from err


def parse_canonical_json(data: bytes) -> Any:
    """Parse JSON that must be in canonical form; repeated keys and stray spaces cannot pass.

    Raises:
        ValueError: It is not.
    """
    value = parse_json(data)
    if canonical_json(value) != data:
        raise ValueError("JSON is not in canonical form")
    return value


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding."""
    return binascii.b2a_base64(data, newline=False).decode()


def decode_base64(text: str) -> bytes:
    """Decode standard base64 with padding and no spare bits.

    Raises:
        ValueError: Any other form.
    """
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except (ValueError, TypeError) as err:
        raise ValueError("not base64") from err
    if encode_base64(data) != text:
        raise ValueError("base64 with spare bits")
    return data


def sha256_hex(data: bytes) -> str:
    """Return the sha256 of bytes in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_digest(data: bytes) -> bytes:
    """Return the sha256 of bytes."""
    return hashlib.sha256(data).digest()


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE v1 pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
