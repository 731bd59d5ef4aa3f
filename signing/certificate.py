"""The few DER and TLS structures around a signing certificate that `cryptography` reads but does not write.

Sources: RFC 6962 sections 3.2 and 3.3 (signed certificate timestamps), Fulcio's object identifiers (oid-info of
sigstore/fulcio).
"""

import struct
from dataclasses import dataclass

from cryptography import x509

OID_SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
OID_ISSUER_V1 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
OID_ISSUER_V2 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_SHA256_ECDSA = b"\x04\x03"  # TLS 1.2 hash and signature algorithm numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class SCT:
    """A version 1 signed certificate timestamp without extensions."""

    log_id: bytes
    timestamp_ms: int
    signature: bytes


def sct_signed_data(timestamp_ms: int, issuer_key_hash: bytes, tbs: bytes) -> bytes:
    """Return what an SCT signs for a precertificate (RFC 6962, section 3.2).

    Args:
        timestamp_ms: Milliseconds since 1970.
        issuer_key_hash: sha256 of the issuer's DER SubjectPublicKeyInfo.
        tbs: DER of the certificate's to-be-signed part without the SCT list.
    """
    head = struct.pack(">BBQH", 0, 0, timestamp_ms, 1)
    return head + issuer_key_hash + len(tbs).to_bytes(3, "big") + tbs + b"\0\0"


def sct_list_extension(sct: SCT) -> bytes:
    """Return the value of the SCT list extension that holds one SCT."""
    body = b"\0" + sct.log_id + struct.pack(">QH", sct.timestamp_ms, 0)
    body += _SHA256_ECDSA + struct.pack(">H", len(sct.signature)) + sct.signature
    listed = struct.pack(">H", len(body)) + body
    return _der(0x04, struct.pack(">H", len(listed)) + listed)


def utf8_der(text: str) -> bytes:
    """Return a DER UTF8String."""
    return _der(0x0C, text.encode())


def _der(tag: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content
