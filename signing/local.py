"""The local trust domain: a certificate authority, a certificate log key and a transparency log, on disk, no services.

Its bundles and its `trusted_root.json` are in Sigstore's standard forms, so stock Sigstore clients accept them. What it
proves: the holder of this folder's keys vouched for these bytes. What it does not: who that was, or that nobody else
has the keys. Keys are files of mode 0600; the log is appended under a lock.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from signing import ecdsa, merkle
from signing.bundle import Bundle, LogEntry, log_body
from signing.certificate import (
    OID_ISSUER_V1,
    OID_ISSUER_V2,
    OID_SCT_LIST,
    SCT,
    sct_list_extension,
    sct_signed_data,
    utf8_der,
)
from signing.domain import DOMAIN_FILE, TRUSTED_ROOT, Identity, identity_of
from signing.encoding import canonical_json, encode_base64, pae, sha256_hex
from signing.errors import TrustDomainError
from signing.statement import PAYLOAD_TYPE, Statement

_SCHEMA = "executor.trust-domain/v1"
_CA_YEARS = 10
_LEAF_MINUTES = 10
_KEYS = ("ca", "ctlog", "tlog")


class LocalTrustDomain:
    """An existing trust domain. Make or open one with `open_or_create`."""

    def __init__(
        self, folder: Path, domain_id: str, keys: dict[str, ec.EllipticCurvePrivateKey], ca: x509.Certificate
    ) -> None:
        self.folder = folder
        self.identity = identity_of(domain_id)
        self._keys = keys
        self._ca = ca
        self._log_id = _key_id(keys["tlog"])
        self._origin = f"sealed-executor.local/{domain_id}"

    @contextmanager
    def signer(self, *, now: datetime) -> Iterator["LocalSigner"]:
        """Give a signer with a fresh key and a certificate of ten minutes."""
        key = ec.generate_private_key(ec.SECP256R1())
        yield LocalSigner(self, key, self._issue(key, now), now)

    def _issue(self, key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
        """Issue a leaf with an embedded SCT: signed once without it to get what the SCT covers, then with it."""
        builder = _leaf_builder(key, self._ca, self.identity, now)
        bare = builder.sign(self._keys["ca"], hashes.SHA256())
        stamp = int(now.timestamp() * 1000)
        issuer_key_hash = _sha256(_spki(self._keys["ca"].public_key()))
        data = sct_signed_data(stamp, issuer_key_hash, bare.tbs_certificate_bytes)
        signature = ecdsa.sign(self._keys["ctlog"], data)
        sct = SCT(log_id=_key_id(self._keys["ctlog"]), timestamp_ms=stamp, signature=signature)
        extension = x509.UnrecognizedExtension(OID_SCT_LIST, sct_list_extension(sct))
        return builder.add_extension(extension, critical=False).sign(self._keys["ca"], hashes.SHA256())

    def append(self, body: bytes, *, now: datetime) -> LogEntry:
        """Append to the log and return the entry with its proofs."""
        with self._locked_log() as log:
            leaves = _read_leaves(log)
            index = len(leaves)
            leaves.append(merkle.leaf_hash(body))
            with (self.folder / "log/entries").open("ab") as entries:
                entries.write(canonical_json({"index": index, "body": encode_base64(body)}) + b"\n")
                entries.flush()
                os.fsync(entries.fileno())
            os.lseek(log, 0, os.SEEK_END)
            os.write(log, leaves[-1])
            os.fsync(log)
        root, time = merkle.root_hash(leaves), int(now.timestamp())
        promise = canonical_json(
            {"body": encode_base64(body), "integratedTime": time, "logID": self._log_id.hex(), "logIndex": index}
        )
        return LogEntry(
            index=index,
            log_id=self._log_id,
            integrated_time=time,
            promise=ecdsa.sign(self._keys["tlog"], promise),
            body=body,
            proof=tuple(merkle.inclusion_proof(leaves, index)),
            root=root,
            size=len(leaves),
            checkpoint=self._checkpoint(root, len(leaves)),
        )

    def _checkpoint(self, root: bytes, size: int) -> str:
        text = f"{self._origin}\n{size}\n{encode_base64(root)}\n"
        signature = ecdsa.sign(self._keys["tlog"], text.encode())
        return f"{text}\n\u2014 {self._origin} {encode_base64(self._log_id[:4] + signature)}\n"

    @contextmanager
    def _locked_log(self) -> Iterator[int]:
        descriptor = os.open(self.folder / "log/leaves", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


class LocalSigner:
    """Signs statements under one short-lived certificate."""

    def __init__(
        self, domain: LocalTrustDomain, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, now: datetime
    ) -> None:
        self._domain = domain
        self._key = key
        self._certificate = certificate
        self._now = now

    def sign(self, statement: Statement) -> Bundle:
        """Sign a statement, log it, and return the bundle."""
        payload = statement.to_bytes()
        signature = ecdsa.sign(self._key, pae(PAYLOAD_TYPE, payload))
        pem = self._certificate.public_bytes(Encoding.PEM)
        body = log_body(payload=payload, signature=signature, certificate_pem=pem)
        return Bundle(
            certificate=self._certificate.public_bytes(Encoding.DER),
            entry=self._domain.append(body, now=self._now),
            payload=payload,
            signature=signature,
        )


def open_or_create(folder: Path, *, now: datetime) -> LocalTrustDomain:
    """Open the trust domain in a folder, making it at first use.

    Raises:
        TrustDomainError: The folder holds something else, or cannot be read.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # two first runs at once must not make two domains
        if not (folder / DOMAIN_FILE).exists():
            _create(folder, now)
        return _open(folder)
    except OSError as err:
        raise TrustDomainError(f"cannot use the trust domain: {err.strerror}: {folder}") from err
    finally:
        os.close(descriptor)


def _open(folder: Path) -> LocalTrustDomain:
    try:
        document = json.loads((folder / DOMAIN_FILE).read_bytes())
        if document["schema"] != _SCHEMA:
            raise ValueError(f"schema {document['schema']!r}")
        keys = {name: _load_key(folder / f"{name}.key") for name in _KEYS}
        ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        return LocalTrustDomain(folder, document["id"], keys, ca)
    except (KeyError, TypeError, ValueError) as err:
        raise TrustDomainError(f"trust domain is damaged: {folder}: {err}", hint="restore it from a backup") from err


def _create(folder: Path, now: datetime) -> None:
    """Write everything, `domain.json` last: without it there is no domain yet, and a next try starts over."""
    domain_id = secrets.token_hex(8)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in _KEYS}
    ca = _ca_certificate(keys["ca"], domain_id, now)
    (folder / "log").mkdir(mode=0o700, exist_ok=True)
    for name, key in keys.items():
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write(folder / f"{name}.key", pem, 0o600)
    _write(folder / "ca.pem", ca.public_bytes(Encoding.PEM), 0o644)
    _write(folder / TRUSTED_ROOT, json.dumps(_trusted_root(keys, ca, domain_id, now), indent=2).encode(), 0o644)
    _write(folder / DOMAIN_FILE, canonical_json({"schema": _SCHEMA, "id": domain_id}), 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.stat().st_mode & 0o077:
        raise ValueError(f"private key can be read by others: {path.name}")
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"not an elliptic curve key: {path.name}")
    return key


def _ca_certificate(key: ec.EllipticCurvePrivateKey, domain_id: str, now: datetime) -> x509.Certificate:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "sealed-executor"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"local trust domain {domain_id}"),
        ]
    )
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=365 * _CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(certificates=True), critical=True)
        .add_extension(ski, critical=False)
        .sign(key, hashes.SHA256())
    )


def _leaf_builder(
    key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, identity: Identity, now: datetime
) -> x509.CertificateBuilder:
    ca_ski = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = identity.issuer.encode()
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=5))
        .not_valid_after(now + timedelta(minutes=_LEAF_MINUTES))
        .add_extension(_key_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_ski), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.subject)]), critical=True)
        .add_extension(x509.UnrecognizedExtension(OID_ISSUER_V1, issuer), critical=False)
        .add_extension(x509.UnrecognizedExtension(OID_ISSUER_V2, utf8_der(identity.issuer)), critical=False)
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


def _trusted_root(
    keys: dict[str, ec.EllipticCurvePrivateKey], ca: x509.Certificate, domain_id: str, now: datetime
) -> dict[str, Any]:
    start = {"start": (now - timedelta(minutes=1)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}

    def log(name: str) -> dict[str, Any]:
        return {
            "baseUrl": f"https://{name}.{domain_id}.invalid",  # a name that can never be reached: RFC 6761
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": encode_base64(_spki(keys[name].public_key())),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": start,
            },
            "logId": {"keyId": encode_base64(_key_id(keys[name]))},
        }

    return {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [log("tlog")],
        "certificateAuthorities": [
            {
                "subject": {"organization": "sealed-executor", "commonName": f"local trust domain {domain_id}"},
                "uri": f"https://ca.{domain_id}.invalid",
                "certChain": {"certificates": [{"rawBytes": encode_base64(ca.public_bytes(Encoding.DER))}]},
                "validFor": start,
            }
        ],
        "ctlogs": [log("ctlog")],
        "timestampAuthorities": [],
    }


def _read_leaves(log: int) -> list[bytes]:
    size = os.fstat(log).st_size
    if size % 32:  # a writer died in the middle: what it wrote was never handed out
        size -= size % 32
        os.ftruncate(log, size)
    data = os.pread(log, size, 0)
    return [data[i : i + 32] for i in range(0, size, 32)]


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return _sha256(_spki(key.public_key()))


def _sha256(data: bytes) -> bytes:
    """Return a sha256 as bytes."""
    return bytes.fromhex(sha256_hex(data))
