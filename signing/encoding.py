"""Encodings with one form only: what decodes must encode back to the same bytes, so that nothing can vary unseen."""

import base64
import hashlib
import json
from typing import Any


def canonical_json(value: object) -> bytes:
    """Return JSON with sorted keys, no spaces and no NaN, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def parse_canonical_json(data: bytes) -> Any:
    """Parse JSON that must be in canonical form; repeated keys and stray spaces cannot pass.

    Raises:
        ValueError: It is not.
    """
    try:
        value = json.loads(data)
        if canonical_json(value) != data:
            raise ValueError("JSON is not in canonical form")
    except RecursionError as err:
        raise ValueError("JSON is nested too deep") from err
    return value


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding."""
    return base64.b64encode(data).decode()


def decode_base64(text: str) -> bytes:
    """Decode standard base64 with padding and no spare bits.

    Raises:
        ValueError: Any other form.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, TypeError) as err:
        raise ValueError("not base64") from err
    if encode_base64(data) != text:
        raise ValueError("base64 with spare bits")
    return data


def sha256_hex(data: bytes) -> str:
    """Return the sha256 of bytes in hex."""
    return hashlib.sha256(data).hexdigest()


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE v1 pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
