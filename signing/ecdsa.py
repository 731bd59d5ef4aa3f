"""ECDSA over P-256 with SHA-256, with one signature per value.

(r, s) and (r, n - s) verify alike, so a signature of which only one form is accepted cannot be changed unseen: s is at
most half the order, as BIP 62 has it for another curve, and the DER form is the one that `cryptography` writes.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # FIPS 186-4, D.1.2.3
_ALGORITHM = ec.ECDSA(hashes.SHA256())


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Return the DER signature with the lower s."""
    r, s = decode_dss_signature(key.sign(data, _ALGORITHM))
    return encode_dss_signature(r, min(s, _ORDER - s))


def verify_signature(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> None:
    """Check a signature that `sign` made.

    Raises:
        InvalidSignature: It does not hold, or is in another form.
    """
    try:
        r, s = decode_dss_signature(signature)
    except ValueError as err:
        raise InvalidSignature from err
    if s > _ORDER // 2 or encode_dss_signature(r, s) != signature:
        raise InvalidSignature
    key.verify(signature, data, _ALGORITHM)
