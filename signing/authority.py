"""The local certificate authority: its own certificate, and those of ten minutes that it issues to signers.

The profile is Fulcio's, so that Sigstore clients accept what is issued. Used by the signer alone; verification reads
certificates with `signing.certificate`.
"""

import hashlib
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from signing import ecdsa
from signing.certificate import (
    OID_ISSUER_V1,
    OID_ISSUER_V2,
    OID_SCT_LIST,
    SCT,
    sct_list_extension,
    sct_signed_data,
    utf8_der,
)
from signing.domain import Identity

_CA_YEARS = 10
_LEAF_MINUTES = 10
_CLOCK_SECONDS = 5  # a verifier's clock may be that far behind


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a key's DER SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return sha256 over a key's DER SubjectPublicKeyInfo, by which logs are known (RFC 6962, section 3.2)."""
    return hashlib.sha256(spki(key)).digest()


def ca_certificate(key: ec.EllipticCurvePrivateKey, common_name: str, *, start: datetime) -> x509.Certificate:
    """Return a self-signed certificate of ten years that may issue signing certificates and nothing else."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "sealed-executor"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=365 * _CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(certificates=True), critical=True)
        .add_extension(ski, critical=False)
        .sign(key, hashes.SHA256())
    )


def issue(
    key: ec.EllipticCurvePublicKey,
    identity: Identity,
    *,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    log_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    """Issue a certificate of ten minutes with the certificate log's timestamp in it.

    It is signed twice: without the timestamp, for that is what a timestamp is over, and with it.
    """
    builder = _leaf_builder(key, ca, identity, now)
    bare = builder.sign(ca_key, hashes.SHA256())
    stamp = int(now.timestamp()) * 1000  # whole seconds, as windows of trust begin and end
    issuer_key_hash = hashlib.sha256(spki(ca_key.public_key())).digest()
    data = sct_signed_data(stamp, issuer_key_hash, bare.tbs_certificate_bytes)
    sct = SCT(log_id=key_id(log_key.public_key()), timestamp_ms=stamp, signature=ecdsa.sign(log_key, data))
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(OID_SCT_LIST), sct_list_extension(sct))
    return builder.add_extension(extension, critical=False).sign(ca_key, hashes.SHA256())


def _leaf_builder(
    key: ec.EllipticCurvePublicKey, ca: x509.Certificate, identity: Identity, now: datetime
) -> x509.CertificateBuilder:
    ca_ski = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.subject)])
    issuer_v1 = x509.UnrecognizedExtension(x509.ObjectIdentifier(OID_ISSUER_V1), identity.issuer.encode())
    issuer_v2 = x509.UnrecognizedExtension(x509.ObjectIdentifier(OID_ISSUER_V2), utf8_der(identity.issuer))
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ca.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=_CLOCK_SECONDS))
        .not_valid_after(now + timedelta(minutes=_LEAF_MINUTES))
        .add_extension(_key_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_ski), critical=False)
        .add_extension(names, critical=True)
        .add_extension(issuer_v1, critical=False)
        .add_extension(issuer_v2, critical=False)
    )


def _key_usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
