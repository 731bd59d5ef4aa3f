"""Encodings with one form only: what decodes must encode back to the same bytes, so that nothing can vary unseen.

Small things are hashed by `cryptography`, which is loaded anyway: to import `hashlib` loads OpenSSL a second time, for
3 of the 55 ms CPU that verifying a release takes (measured 2026-11-25).
"""

import binascii
import json
from typing import Any

from cryptography.hazmat.primitives import hashes

_SHA256 = hashes.SHA256()


def canonical_json(value: object) -> bytes:
    """Return JSON with sorted keys, no spaces and no NaN, in ASCII.

    Raises:
        ValueError: It holds NaN or a cycle, or is nested too deep.
    """
    # To look for cycles took a quarter of the time (measured 2026-11-25): one ends like what is nested too deep.
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False).encode()
    except RecursionError as err:
        raise ValueError("JSON is nested too deep") from err


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
    return sha256_digest(data).hex()


def sha256_digest(data: bytes) -> bytes:
    """Return the sha256 of bytes."""
    digest = hashes.Hash(_SHA256)
    digest.update(data)
    return digest.finalize()


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE v1 pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
