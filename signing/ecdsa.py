"""ECDSA over P-256 with SHA-256, and over P-384 with SHA-384: keys, signatures, and the one form of a signature.

(r, s) and (r, n - s) verify alike, so a signature of which only one form is accepted cannot be changed unseen: s is at
most half the order, as BIP 62 has it for another curve, and the DER form is the one that `cryptography` writes.
"""

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from signing import der

PublicKey = ec.EllipticCurvePublicKey
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # FIPS 186-4, D.1.2.3
_OID_EC = "1.2.840.10045.2.1"
_CURVES: dict[str, type[ec.EllipticCurve]] = {"1.2.840.10045.3.1.7": ec.SECP256R1, "1.3.132.0.34": ec.SECP384R1}
SIGNATURE_OIDS: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "1.2.840.10045.4.3.2": hashes.SHA256,
    "1.2.840.10045.4.3.3": hashes.SHA384,
}  # RFC 5758, section 3.2


def load_public_key(spki: bytes) -> PublicKey:
    """Read a DER SubjectPublicKeyInfo (RFC 5480).

    Raises:
        ValueError: Not a P-256 or P-384 key with an uncompressed point on the curve.
    """
    algorithm, point = der.read(spki, der.SEQUENCE).children()
    kind, curve = der.expect(algorithm, der.SEQUENCE).children()
    name = der.oid(curve)
    if der.oid(kind) != _OID_EC or name not in _CURVES:
        raise ValueError("public key is neither on P-256 nor on P-384")
    encoded = der.bits(point)
    if encoded[:1] != b"\x04":
        raise ValueError("public key's point is not in uncompressed form")
    return PublicKey.from_encoded_point(_CURVES[name](), encoded)


def is_p256(key: PublicKey) -> bool:
    """Whether a key is on P-256, the one curve that statements are signed with."""
    return isinstance(key.curve, ec.SECP256R1)


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Return the DER signature with the lower s, by a P-256 key."""
    return lower(key.sign(data, ec.ECDSA(hashes.SHA256())))


def lower(signature: bytes) -> bytes:
    """Return the form of a P-256 signature with the lower s."""
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, min(s, _ORDER - s))


def verify_signature(key: PublicKey, signature: bytes, data: bytes) -> None:
    """Check a P-256 signature in the form that `sign` gives.

    Raises:
        InvalidSignature: It does not hold, is in another form, or the key is on another curve.
    """
    try:
        in_form = is_p256(key) and lower(signature) == signature
    except ValueError as err:
        raise InvalidSignature from err
    if not in_form:
        raise InvalidSignature
    verify_bound_signature(key, signature, data, hashes.SHA256())


def verify_bound_signature(key: PublicKey, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm) -> None:
    """Check a signature whose bytes something else binds, so that its form does not matter.

    Raises:
        InvalidSignature: It does not hold.
    """
    try:
        key.verify(signature, data, _ForVerifying(algorithm))
    except ValueError as err:
        raise InvalidSignature from err


class _ForVerifying(ec.ECDSA):
    """ECDSA without asking whether signatures could be made deterministic, which imports every cipher there is."""

    def __init__(self, algorithm: hashes.HashAlgorithm) -> None:
        self._hash = algorithm

    @property
    def algorithm(self) -> hashes.HashAlgorithm:
        """The hash."""
        return self._hash
