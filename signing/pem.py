"""Public keys as PEM, read without a library for all the formats that there are: `verify` starts faster so."""

import re
from collections.abc import Sequence
from pathlib import Path

from signing.ecdsa import PublicKey, is_p256, load_public_key
from signing.encoding import decode_base64, encode_base64, sha256_digest
from signing.errors import VerificationError
from signing.evidence import Expectations
from signing.files import read_named

_PUBLIC_KEY = re.compile(
    rb"-----BEGIN PUBLIC KEY-----\r?\n((?:[A-Za-z0-9+/=]+\r?\n)+)-----END PUBLIC KEY-----(?:\r?\n)?"
)


def parse_public_key(data: bytes) -> tuple[str, PublicKey]:
    """Parse a PEM public key (RFC 7468); return it with the hint that bundles name it by.

    Raises:
        ValueError: Not one P-256 public key.
    """
    match = _PUBLIC_KEY.fullmatch(data)
    if match is None:
        raise ValueError("not one PEM public key")
    spki = decode_base64(b"".join(match[1].split()).decode())
    key = load_public_key(spki)
    if not is_p256(key):
        raise ValueError("public key is not on P-256")
    return key_hint(spki), key


def key_hint(spki: bytes) -> str:
    """Return the hint that bundles name a key by: base64 of sha256 over its DER form, as cosign writes it."""
    return encode_base64(sha256_digest(spki))


def expect_keys(paths: Sequence[Path]) -> Expectations:
    """Return expectations that accept these keys and nobody else.

    Raises:
        VerificationError: A file is missing, or is not one P-256 public key.
    """
    keys = {}
    for path in paths:
        try:
            hint, key = parse_public_key(read_named(path))
        except OSError as err:
            raise VerificationError(f"cannot read the key: {path}: {err.strerror}", check="TRUST-ROOT") from err
        except ValueError as err:
            raise VerificationError(
                f"{err}: {path}", check="TRUST-ROOT", hint="name a PEM file that starts with BEGIN PUBLIC KEY"
            ) from err
        keys[hint] = key
    return Expectations(keys=keys)
