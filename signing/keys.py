"""Private keys on disk: P-256, PEM, for their owner alone, encrypted where a passphrase is given."""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from signing.errors import TrustDomainError
from signing.files import read_named, write_whole

PASSPHRASE_VARIABLE = "EXECUTOR_TRUST_PASSPHRASE"  # noqa: S105 - the variable's name
_ENCRYPTED = b"BEGIN ENCRYPTED PRIVATE KEY"


def passphrase_from_environment() -> bytes | None:
    """Return the passphrase that keys at rest are encrypted with, or None where there is none."""
    return os.environb.get(PASSPHRASE_VARIABLE.encode()) or None


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def write_key(path: Path, key: ec.EllipticCurvePrivateKey, *, passphrase: bytes | None) -> None:
    """Write a key that its owner alone can read; encrypted where there is a passphrase."""
    encryption: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    write_whole(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), mode=0o600)


def load_key(path: Path, *, passphrase: bytes | None) -> ec.EllipticCurvePrivateKey:
    """Load a private key.

    Raises:
        TrustDomainError: It cannot be read, others can read it, it is no P-256 key, or the passphrase is not its.
    """
    try:
        data = read_named(path)
        if path.stat().st_mode & 0o077:
            raise TrustDomainError(f"private key can be read by others: {path}", hint=f"chmod 600 {path}")
        encrypted = _ENCRYPTED in data
        if encrypted and passphrase is None:
            raise TrustDomainError(f"private key is encrypted: {path}", hint=f"set {PASSPHRASE_VARIABLE}")
        key = load_pem_private_key(data, password=passphrase if encrypted else None)
    except OSError as err:
        raise TrustDomainError(f"cannot read the private key: {path}: {err.strerror}") from err
    except (ValueError, TypeError, UnsupportedAlgorithm) as err:
        hint = f"is {PASSPHRASE_VARIABLE} the right one?" if encrypted else "it must be PEM, PKCS #8 or SEC 1"
        raise TrustDomainError(f"private key is damaged or its passphrase another: {path}", hint=hint) from err
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise TrustDomainError(f"not a P-256 key: {path}")
    return key


def is_encrypted(path: Path) -> bool:
    """Whether a key is encrypted at rest.

    Raises:
        OSError: It cannot be read.
    """
    return _ENCRYPTED in path.read_bytes()


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as PEM (RFC 7468)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
