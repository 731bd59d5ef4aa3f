"""Canonical JSON and digests of values: equal values give equal bytes, so that a digest can name them."""

import hashlib
import json


def canonical_json(value: object) -> bytes:
    """Return JSON with sorted keys, no spaces and no NaN, in ASCII.

    Raises:
        ValueError: The value holds NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_of(value: object) -> str:
    """Return the sha256 of the canonical JSON of a value, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
