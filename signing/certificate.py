"""Signing certificates: the one profile of X.509 that Fulcio and the local authority issue, and its timestamps.

Everything that a certificate says and that is not understood here makes it refused, so that there is nothing to
misunderstand. Sources: RFC 5280, RFC 6962 sections 3.2 and 3.3 (signed certificate timestamps), Fulcio's certificate
profile and object identifiers (docs/certificate-specification.md and docs/oid-info.md of sigstore/fulcio).
"""

import hashlib
import struct
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import InvalidSignature

from signing import der
from signing.ecdsa import SIGNATURE_OIDS, PublicKey, is_p256, load_public_key, verify_bound_signature
from signing.value import Value

OID_SCT_LIST = "1.3.6.1.4.1.11129.2.4.2"
OID_ISSUER_V1 = "1.3.6.1.4.1.57264.1.1"
OID_ISSUER_V2 = "1.3.6.1.4.1.57264.1.8"
_OID_FULCIO = "1.3.6.1.4.1.57264.1."
_OID_KEY_USAGE, _OID_SAN, _OID_BASIC, _OID_PURPOSES = "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37"
_OID_SKI, _OID_AKI = "2.5.29.14", "2.5.29.35"
_OID_CODE_SIGNING = "1.3.6.1.5.5.7.3.3"
_KNOWN = (_OID_KEY_USAGE, _OID_PURPOSES, _OID_SAN, _OID_SKI, _OID_AKI, _OID_BASIC, OID_SCT_LIST)
_DIGITAL_SIGNATURE = b"\x07\x80"
_EXTENSIONS_TAG, _VERSION_TAG, _EMAIL_TAG, _URI_TAG = 0xA3, 0xA0, 0x81, 0x86
_KEY_IDENTIFIER_TAG = 0x80
_SHA256_ECDSA = b"\x04\x03"  # TLS 1.2 hash and signature algorithm numbers
_CERTIFICATE_BYTES_MAX = 1 << 14  # Fulcio's have about 700 bytes
_MILLISECONDS_MAX = 253_402_300_799_000  # the last second of the year 9999
_SCT_SLACK = timedelta(minutes=1)


class SCT(Value):
    """A version 1 signed certificate timestamp without extensions."""

    log_id: bytes
    timestamp_ms: int
    signature: bytes

    @property
    def moment(self) -> datetime:
        """When the certificate was logged.

        Raises:
            ValueError: No calendar has that moment.
        """
        if self.timestamp_ms > _MILLISECONDS_MAX:
            raise ValueError("certificate's timestamp is out of range")
        return datetime.fromtimestamp(self.timestamp_ms / 1000, UTC)


class Certificate(Value):
    """A parsed certificate.

    Attributes:
        der: All of it.
        tbs: What its issuer signed, DER.
        issuer: Issuer's name, DER.
        subject: Subject's name, DER.
        not_before: First moment of validity.
        not_after: Last moment of validity.
        spki: DER SubjectPublicKeyInfo.
        key: The key in it.
        extensions: By dotted identifier: whether it is critical, and its value.
        algorithm: Identifier of the signature's algorithm.
        signature: The issuer's signature.
    """

    der: bytes
    tbs: bytes
    issuer: bytes
    subject: bytes
    not_before: datetime
    not_after: datetime
    spki: bytes
    key: PublicKey
    extensions: dict[str, tuple[bool, bytes]]
    algorithm: str
    signature: bytes

    def valid_at(self, moment: datetime) -> bool:
        """Whether a moment lies within its validity."""
        return self.not_before <= moment <= self.not_after


def parse_certificate(data: bytes) -> Certificate:
    """Parse a DER certificate.

    Raises:
        ValueError: It is malformed, too large, of another version, or has a key or a signature of another kind.
    """
    if len(data) > _CERTIFICATE_BYTES_MAX:
        raise ValueError("certificate is too large")
    tbs, algorithm, signature = der.read(data, der.SEQUENCE).children()
    fields = der.expect(tbs, der.SEQUENCE).children()
    version, serial, inner, issuer, validity, subject, spki, extensions = fields
    if version.whole != b"\xa0\x03\x02\x01\x02" or inner.whole != algorithm.whole or der.integer(serial) == 0:
        raise ValueError("certificate is of another version, or names two signature algorithms")
    (kind,) = der.expect(algorithm, der.SEQUENCE).children()
    name = der.oid(kind)
    if name not in SIGNATURE_OIDS:
        raise ValueError("certificate is signed with another algorithm than ECDSA")
    start, end = der.expect(validity, der.SEQUENCE).children()
    return Certificate(
        der=data,
        tbs=tbs.whole,
        issuer=_name(issuer),
        subject=_name(subject),
        not_before=der.time(start),
        not_after=der.time(end),
        spki=spki.whole,
        key=load_public_key(spki.whole),
        extensions=_extensions(extensions),
        algorithm=name,
        signature=der.bits(signature),
    )


def check_issued_by(leaf: Certificate, authority: Certificate) -> None:
    """Check that an authority issued a certificate.

    Raises:
        ValueError: It did not, or it is no authority.
    """
    critical, basic = authority.extensions.get(_OID_BASIC, (False, b""))
    usage = authority.extensions.get(_OID_KEY_USAGE, (False, b""))[1]
    if leaf.issuer != authority.subject:
        raise ValueError("certificate names another issuer")
    if not critical or basic[:5] not in (b"\x30\x03\x01\x01\xff", b"\x30\x06\x01\x01\xff") or not _may_certify(usage):
        raise ValueError("issuer is not a certificate authority")
    try:
        verify_bound_signature(authority.key, leaf.signature, leaf.tbs, SIGNATURE_OIDS[leaf.algorithm]())
    except InvalidSignature as err:
        raise ValueError("issuer's signature does not hold") from err


def check_signing_profile(leaf: Certificate) -> None:
    """Check that a certificate is one for signing code, and says nothing that is not understood.

    Raises:
        ValueError: It is not.
    """
    if not is_p256(leaf.key):
        raise ValueError("certificate's key is not on P-256")
    usage = leaf.extensions.get(_OID_KEY_USAGE, (False, b""))[1]
    purposes = leaf.extensions.get(_OID_PURPOSES, (False, b""))[1]
    if der.read(usage or b"\x05\x00", der.BIT_STRING).content != _DIGITAL_SIGNATURE:
        raise ValueError("certificate is not for signatures alone")
    if [der.oid(p) for p in der.read(purposes or b"\x05\x00", der.SEQUENCE).children()] != [_OID_CODE_SIGNING]:
        raise ValueError("certificate is not for signing code")
    _check_key_identifiers(leaf)
    for name, (_, value) in leaf.extensions.items():
        if name == _OID_BASIC and value != b"\x30\x00":
            raise ValueError("certificate is an authority's")
        if name not in _KNOWN and not name.startswith(_OID_FULCIO):
            raise ValueError(f"certificate has an extension that is not understood: {name}")


def identity_in(leaf: Certificate) -> tuple[str, str]:
    """Return whom a certificate names: its one URI or e-mail address, and the issuer of that identity.

    Raises:
        ValueError: It names nobody, several, or in another form.
    """
    _, names = leaf.extensions.get(_OID_SAN, (False, b"\x30\x00"))
    (name,) = der.read(names, der.SEQUENCE).children()
    if name.tag not in (_URI_TAG, _EMAIL_TAG):
        raise ValueError("certificate names its subject by neither URI nor e-mail address")
    _, issuer = leaf.extensions.get(OID_ISSUER_V2, (False, b""))
    subject = name.content.decode("ascii")
    if not subject:
        raise ValueError("certificate names nobody")
    return subject, der.read(issuer, der.UTF8_STRING).content.decode()


def sct_in(leaf: Certificate) -> SCT:
    """Return the one signed timestamp that a certificate carries.

    Raises:
        ValueError: It carries none, several, or one in another form.
    """
    _, value = leaf.extensions.get(OID_SCT_LIST, (False, b""))
    content = der.read(value, der.OCTET_STRING).content
    # list length, item length, version, log id, timestamp, no extensions, algorithm, signature length
    head = struct.Struct(">HHB32sQH2sH")
    if len(content) < head.size:
        raise ValueError("certificate's list of timestamps is cut off")
    total, item, version, log_id, timestamp, extras, algorithm, length = head.unpack_from(content)
    rest = len(content) - head.size
    exact = (total, item, length) == (len(content) - 2, len(content) - 4, rest)
    if not exact or (version, extras, algorithm) != (0, 0, _SHA256_ECDSA):
        raise ValueError("certificate does not carry exactly one plain timestamp")
    return SCT(log_id=log_id, timestamp_ms=timestamp, signature=content[head.size :])


def check_sct(leaf: Certificate, issuer: Certificate, sct: SCT, key: PublicKey) -> None:
    """Check a certificate's timestamp by the key of its log.

    Raises:
        ValueError: It does not hold, or is not of the certificate's time.
    """
    if leaf.not_before - sct.moment > _SCT_SLACK or sct.moment > leaf.not_after:
        raise ValueError("certificate was logged outside of its validity")
    data = sct_signed_data(sct.timestamp_ms, hashlib.sha256(issuer.spki).digest(), _without_sct(leaf))
    try:
        verify_bound_signature(key, sct.signature, data, SIGNATURE_OIDS["1.2.840.10045.4.3.2"]())
    except InvalidSignature as err:
        raise ValueError("certificate log's timestamp does not hold") from err


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
    return der.encode(der.OCTET_STRING, struct.pack(">H", len(listed)) + listed)


def utf8_der(text: str) -> bytes:
    """Return a DER UTF8String."""
    return der.encode(der.UTF8_STRING, text.encode())


def _name(element: der.Element) -> bytes:
    """Return a name's DER after a look at its form; names are only ever compared as bytes."""
    for relative in der.expect(element, der.SEQUENCE).children():
        for attribute in der.expect(relative, der.SET).children():
            kind, text = der.expect(attribute, der.SEQUENCE).children()
            der.oid(kind)
            if text.tag not in (der.UTF8_STRING, der.PRINTABLE_STRING) or not text.content.decode().isprintable():
                raise ValueError("certificate has a name that is not plain text")
    return element.whole


def _extensions(tagged: der.Element) -> dict[str, tuple[bool, bytes]]:
    (listed,) = der.expect(tagged, _EXTENSIONS_TAG).children()
    found: dict[str, tuple[bool, bytes]] = {}
    for extension in der.expect(listed, der.SEQUENCE).children():
        name, *critical, value = der.expect(extension, der.SEQUENCE).children()
        identifier = der.oid(name)
        if identifier in found or len(critical) > 1 or (critical and not der.boolean(critical[0])):
            raise ValueError(f"certificate's extension is malformed or stands twice: {identifier}")
        found[identifier] = (bool(critical), der.expect(value, der.OCTET_STRING).content)
    return found


def _check_key_identifiers(leaf: Certificate) -> None:
    """Nothing follows from them; they must be what they say they are (RFC 5280, sections 4.2.1.1 and 4.2.1.2)."""
    if _OID_SKI in leaf.extensions:
        der.read(leaf.extensions[_OID_SKI][1], der.OCTET_STRING)
    if _OID_AKI in leaf.extensions:
        parts = der.read(leaf.extensions[_OID_AKI][1], der.SEQUENCE).children()
        if [part.tag for part in parts] != [_KEY_IDENTIFIER_TAG]:
            raise ValueError("certificate names its issuer's key in another way")


def _may_certify(usage: bytes) -> bool:
    content = der.read(usage or b"\x05\x00", der.BIT_STRING).content
    return len(content) == 2 and bool(content[1] & 0x04)  # keyCertSign is bit 5 (RFC 5280, section 4.2.1.3)


def _without_sct(leaf: Certificate) -> bytes:
    """Return the to-be-signed part as it was before the timestamps were put in (RFC 6962, section 3.2)."""
    *fields, tagged = der.read(leaf.tbs, der.SEQUENCE).children()
    (listed,) = tagged.children()
    kept = [e.whole for e in listed.children() if der.oid(e.children()[0]) != OID_SCT_LIST]
    extensions = der.encode(_EXTENSIONS_TAG, der.encode(der.SEQUENCE, b"".join(kept)))
    return der.encode(der.SEQUENCE, b"".join(f.whole for f in fields) + extensions)
