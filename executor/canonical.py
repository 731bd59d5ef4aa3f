"""Digests of values: equal values have equal digests, so that a digest can name them."""

from signing.encoding import canonical_json, sha256_hex


def digest_of(value: object) -> str:
    """Return the sha256 of the canonical JSON of a value, in hex."""
    return sha256_hex(canonical_json(value))
