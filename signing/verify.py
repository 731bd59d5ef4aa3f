"""Verify bundles and releases, offline. Imports `cryptography` and the standard library alone; starts in a blink.

The order is that of trust: the trusted root first, then the certificate and the log that it vouches for, then the
signature, then what was signed, and only then the files. Every function raises or returns; none returns a bool.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from signing import merkle
from signing.bundle import Bundle, log_body, parse_bundle
from signing.certificate import OID_ISSUER_V2, sct_signed_data, utf8_der
from signing.ecdsa import verify_signature
from signing.encoding import canonical_json, decode_base64, encode_base64, pae, sha256_hex
from signing.errors import VerificationError
from signing.manifest import BUNDLE_SUFFIX, CHECKSUMS, MANIFEST, PROVENANCE, Manifest, ManifestFile, parse_manifest
from signing.statement import (
    PAYLOAD_TYPE,
    PREDICATE_ARTIFACT,
    PREDICATE_MANIFEST,
    PREDICATE_PROVENANCE,
    Statement,
    parse_statement,
)
from signing.trust import TrustRoot

_CERTIFICATE_ERRORS = (
    *(ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension),
    *(x509.InvalidVersion, x509.UnsupportedGeneralNameType),
)
_FOLDER_DEPTH_MAX = 16
_ENTRIES_MAX = 100_000
_SMALL_FILE_BYTES_MAX = 64 << 20
_CHUNK = 1 << 20
_SCT_SLACK = timedelta(minutes=1)

CHECKS = (
    ("LAYOUT", "regular files only, none missing, none unlisted"),
    ("BUNDLE", "every bundle is in the one form that this project writes"),
    ("CERTIFICATE", "issued by the trusted authority, for signing, valid when signed, logged at issuance"),
    ("IDENTITY", "subject and issuer are exactly those expected"),
    ("LOG", "entry is of this signature, included under a signed checkpoint, time-stamped by the log"),
    ("SIGNATURE", "signed by the certificate's key"),
    ("STATEMENT", "each statement is about this file, of the expected kind, and of this release"),
    ("MANIFEST", "canonical, and names every file"),
    ("DIGEST", "size and sha256 of every file are those of the manifest"),
    ("CHECKSUMS", "SHA256SUMS says the same as the manifest"),
    ("PROVENANCE", "covers exactly the files of the manifest, and the manifest"),
)
NOT_CHECKED = (
    "whether the policy was a good one",
    "whether the same job would give the same bytes again",
    "whether the signer's keys were stolen",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What a verifier insists on.

    Attributes:
        trust: Whose word counts.
        subject: Exact URI that the certificate must name.
        issuer: Exact issuer that it must name.
    """

    trust: TrustRoot
    subject: str
    issuer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A verified release.

    Attributes:
        manifest: Its manifest.
        manifest_sha256: Digest of `manifest.json`, in hex.
        signed_at: When the log took the manifest's signature.
    """

    manifest: Manifest
    manifest_sha256: str
    signed_at: datetime


def verify_release(folder: Path, expect: Expectations) -> Verified:
    """Verify a release directory as a whole.

    Raises:
        VerificationError: Some check does not hold; it names the check and the file.
    """
    found = _list_files(folder)
    for name in (MANIFEST, MANIFEST + BUNDLE_SUFFIX):
        if name not in found:
            raise VerificationError(f"file is missing: {name}", check="LAYOUT", file=name)
    raw = _read(folder, MANIFEST)
    digest = sha256_hex(raw)
    bundle = _read_bundle(folder, MANIFEST + BUNDLE_SUFFIX)
    signed_at = _verify_statement(bundle, MANIFEST, digest, PREDICATE_MANIFEST, MANIFEST + BUNDLE_SUFFIX, expect)[1]
    manifest = _parse_manifest(raw)
    _check_layout(found, manifest)
    for item in manifest.files:
        if _hash(folder, item) != item.sha256:
            raise VerificationError(f"file is not what the manifest says: {item.path}", check="DIGEST", file=item.path)
        name = item.path + BUNDLE_SUFFIX
        own = _read_bundle(folder, name)
        statement = _verify_statement(own, item.path, item.sha256, PREDICATE_ARTIFACT, name, expect)[0]
        if statement.predicate.get("manifest_sha256") != digest:
            raise VerificationError(f"bundle belongs to another release: {name}", check="STATEMENT", file=name)
    if _read(folder, CHECKSUMS) != manifest.checksums():
        raise VerificationError(f"{CHECKSUMS} differs from the manifest", check="CHECKSUMS", file=CHECKSUMS)
    _verify_provenance(folder, manifest, digest, expect)
    return Verified(manifest=manifest, manifest_sha256=digest, signed_at=signed_at)


def verify_bundle(bundle: Bundle, expect: Expectations, *, file: str) -> tuple[Statement, datetime]:
    """Verify one bundle and return what it says and when that was logged.

    Args:
        bundle: A parsed bundle.
        expect: What to insist on.
        file: Name for messages.

    Raises:
        VerificationError: Some check does not hold.
    """
    logged_at = datetime.fromtimestamp(bundle.entry.integrated_time, UTC)
    certificate = _check_certificate(bundle, expect, logged_at, file)
    _check_identity(certificate, expect, file)
    _check_log(bundle, certificate, expect.trust, logged_at, file)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey), "checked with the certificate"
    _signed(key, bundle.signature, pae(PAYLOAD_TYPE, bundle.payload), "SIGNATURE", "signature does not hold", file)
    try:
        return parse_statement(bundle.payload), logged_at
    except ValueError as err:
        raise VerificationError(f"{err}: {file}", check="STATEMENT", file=file) from err


def _verify_statement(
    bundle: Bundle, subject: str, sha256: str, predicate_type: str, file: str, expect: Expectations
) -> tuple[Statement, datetime]:
    statement, logged_at = verify_bundle(bundle, expect, file=file)
    if statement.predicate_type != predicate_type:
        raise VerificationError(f"statement is of another kind: {file}", check="STATEMENT", file=file)
    if dict(statement.subjects) != {subject: sha256}:
        about = "a file of another name" if subject not in statement.subjects else f"other bytes of {subject}"
        raise VerificationError(f"statement is about {about}: {file}", check="STATEMENT", file=subject)
    return statement, logged_at


def _verify_provenance(folder: Path, manifest: Manifest, manifest_sha256: str, expect: Expectations) -> None:
    statement, _ = verify_bundle(_read_bundle(folder, PROVENANCE), expect, file=PROVENANCE)
    subjects = {f.path: f.sha256 for f in manifest.files} | {MANIFEST: manifest_sha256}
    if statement.predicate_type != PREDICATE_PROVENANCE or dict(statement.subjects) != subjects:
        raise VerificationError("provenance is not of these files", check="PROVENANCE", file=PROVENANCE)


def _check_certificate(bundle: Bundle, expect: Expectations, logged_at: datetime, file: str) -> x509.Certificate:
    def fail(why: str) -> VerificationError:
        return VerificationError(f"{why}: {file}", check="CERTIFICATE", file=file)

    try:
        leaf = x509.load_der_x509_certificate(bundle.certificate)
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
        purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        timestamps = leaf.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
        key = leaf.public_key()
    except _CERTIFICATE_ERRORS as err:
        raise fail("certificate is malformed or lacks an extension") from err
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise fail("certificate's key is not on P-256")
    authority = next((a for a in expect.trust.authorities if _issued_by(leaf, a.certificate)), None)
    if authority is None:
        raise fail("certificate was issued by no trusted authority")
    if not authority.window.covers(logged_at) or not _valid_at(authority.certificate, logged_at):
        raise fail("certificate authority was not trusted at the time of signing")
    if not _valid_at(leaf, logged_at):
        raise fail("certificate was not valid at the time of signing")
    if not usage.digital_signature or list(purposes) != [ExtendedKeyUsageOID.CODE_SIGNING]:
        raise fail("certificate is not for signing code")
    _check_sct(leaf, authority.certificate, list(timestamps), expect.trust, file)
    return leaf


def _check_sct(
    leaf: x509.Certificate,
    authority: x509.Certificate,
    timestamps: list[x509.certificate_transparency.SignedCertificateTimestamp],
    trust: TrustRoot,
    file: str,
) -> None:
    def fail(why: str) -> VerificationError:
        return VerificationError(f"{why}: {file}", check="CERTIFICATE", file=file)

    if len(timestamps) != 1:
        raise fail("certificate does not carry exactly one signed timestamp")
    (sct,) = timestamps
    log = trust.certificate_logs.get(sct.log_id)
    issued_at = sct.timestamp.replace(tzinfo=UTC)
    if log is None or not log.window.covers(issued_at):
        raise fail("certificate was logged by no trusted certificate log")
    if not leaf.not_valid_before_utc - _SCT_SLACK <= issued_at <= leaf.not_valid_after_utc:
        raise fail("certificate was logged outside of its validity")
    issuer_key = authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    milliseconds = round(issued_at.timestamp() * 1000)
    data = sct_signed_data(milliseconds, bytes.fromhex(sha256_hex(issuer_key)), leaf.tbs_precertificate_bytes)
    _signed(log.key, sct.signature, data, "CERTIFICATE", "certificate log's timestamp does not hold", file)


def _check_identity(certificate: x509.Certificate, expect: Expectations, file: str) -> None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        issuer = certificate.extensions.get_extension_for_oid(OID_ISSUER_V2).value
    except _CERTIFICATE_ERRORS as err:
        raise VerificationError(f"certificate names nobody: {file}", check="IDENTITY", file=file) from err
    assert isinstance(issuer, x509.UnrecognizedExtension), "not an extension that cryptography parses"
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    if len(list(names)) != 1 or uris != [expect.subject]:
        raise VerificationError(f"signed by somebody else than {expect.subject}: {file}", check="IDENTITY", file=file)
    if issuer.value != utf8_der(expect.issuer):
        raise VerificationError(
            f"identity is from another issuer than {expect.issuer}: {file}", check="IDENTITY", file=file
        )


def _check_log(bundle: Bundle, certificate: x509.Certificate, trust: TrustRoot, logged_at: datetime, file: str) -> None:
    def fail(why: str) -> VerificationError:
        return VerificationError(f"{why}: {file}", check="LOG", file=file)

    entry = bundle.entry
    log = trust.logs.get(entry.log_id)
    if log is None or not log.window.covers(logged_at):
        raise fail("entry is of no trusted log")
    try:
        root = merkle.root_from_proof(
            merkle.leaf_hash(entry.body), index=entry.index, size=entry.size, proof=entry.proof
        )
    except ValueError as err:
        raise fail(f"inclusion proof does not fit: {err}") from err
    if root != entry.root:
        raise fail("inclusion proof leads to another root")
    _check_checkpoint(bundle, log.key, file)
    promised = {
        "body": encode_base64(entry.body),
        "integratedTime": entry.integrated_time,
        "logID": entry.log_id.hex(),
        "logIndex": entry.index,
    }
    _signed(log.key, entry.promise, canonical_json(promised), "LOG", "entry's timestamp does not hold", file)
    pem = certificate.public_bytes(Encoding.PEM)
    if log_body(payload=bundle.payload, signature=bundle.signature, certificate_pem=pem) != entry.body:
        raise fail("entry is of another signature")  # CVE-2022-36056: an entry must be bound to what it is shown with


def _check_checkpoint(bundle: Bundle, key: ec.EllipticCurvePublicKey, file: str) -> None:
    """A signed note (the checkpoint format of C2SP tlog-checkpoint) with exactly one signature."""
    entry = bundle.entry
    try:
        text, _, signatures = entry.checkpoint.partition("\n\n")
        origin, size, root = text.split("\n")
        dash, name, encoded = signatures.removesuffix("\n").split(" ")
        signature = decode_base64(encoded)
        consistent = (dash, name, int(size), decode_base64(root)) == ("\u2014", origin, entry.size, entry.root)
        signed = f"{text}\n".encode()
        exact = entry.checkpoint == f"{origin}\n{entry.size}\n{root}\n\n\u2014 {name} {encoded}\n"
    except ValueError as err:
        raise VerificationError(f"checkpoint is malformed: {file}", check="LOG", file=file) from err
    if not consistent or not exact or signature[:4] != entry.log_id[:4]:
        raise VerificationError(f"checkpoint is of another tree: {file}", check="LOG", file=file)
    _signed(key, signature[4:], signed, "LOG", "checkpoint's signature does not hold", file)


def _signed(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, check: str, why: str, file: str) -> None:
    try:
        verify_signature(key, signature, data)
    except InvalidSignature as err:
        raise VerificationError(f"{why}: {file}", check=check, file=file) from err


def _issued_by(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _valid_at(certificate: x509.Certificate, moment: datetime) -> bool:
    return certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc


def _list_files(folder: Path) -> set[str]:
    """List a release, refusing everything but plain files and the folders on their way."""
    try:
        if not folder.is_dir() or folder.is_symlink():
            raise VerificationError(f"no release directory at {folder}", check="LAYOUT")
        files, folders = _walk(folder)
    except OSError as err:
        raise VerificationError(f"cannot list the release: {folder}: {err.strerror}", check="LAYOUT") from err
    needed = {parent.as_posix() for name in files for parent in Path(name).parents}
    if unlisted := sorted(folders - needed):
        raise VerificationError(f"empty folder: {unlisted[0]}", check="LAYOUT", file=unlisted[0])
    return files


def _walk(root: Path) -> tuple[set[str], set[str]]:
    files: set[str] = set()
    folders: set[str] = set()
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                name, mode = prefix + entry.name, entry.stat(follow_symlinks=False).st_mode
                if mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX) or not (
                    stat.S_ISDIR(mode) or stat.S_ISREG(mode)
                ):
                    raise VerificationError(f"not a plain file: {name}", check="LAYOUT", file=name)
                if stat.S_ISREG(mode):
                    files.add(name)
                else:
                    folders.add(name)
                    waiting.append(f"{name}/")
                if name.count("/") > _FOLDER_DEPTH_MAX or len(files) + len(folders) > _ENTRIES_MAX:
                    raise VerificationError(
                        f"too deep, or too many files: {name[:100]}", check="LAYOUT", file=name[:100]
                    )
    return files, folders


def _check_layout(found: set[str], manifest: Manifest) -> None:
    expected = manifest.expected_paths()
    if missing := sorted(expected - found):
        raise VerificationError(f"file is missing: {missing[0]}", check="LAYOUT", file=missing[0])
    if unlisted := sorted(found - expected):
        raise VerificationError(f"file is not in the manifest: {unlisted[0]}", check="LAYOUT", file=unlisted[0])


def _parse_manifest(raw: bytes) -> Manifest:
    try:
        return parse_manifest(raw)
    except ValueError as err:
        raise VerificationError(f"manifest is malformed: {err}", check="MANIFEST", file=MANIFEST) from err


def _read_bundle(folder: Path, name: str) -> Bundle:
    try:
        return parse_bundle(_read(folder, name))
    except ValueError as err:
        raise VerificationError(f"{err}: {name}", check="BUNDLE", file=name) from err


def _read(folder: Path, name: str) -> bytes:
    with _open(folder, name) as file:
        if os.fstat(file.fileno()).st_size > _SMALL_FILE_BYTES_MAX:
            raise VerificationError(f"file is too large: {name}", check="LAYOUT", file=name)
        return file.read(_SMALL_FILE_BYTES_MAX)


def _hash(folder: Path, item: ManifestFile) -> str:
    """Hash a file whose size is already right: a sparse terabyte is refused before it is read."""
    digest, left = hashlib.sha256(), item.size
    with _open(folder, item.path) as file:
        if os.fstat(file.fileno()).st_size != item.size:
            raise VerificationError(
                f"file has another size than the manifest says: {item.path}", check="DIGEST", file=item.path
            )
        while chunk := file.read(min(_CHUNK, left)):
            left -= len(chunk)
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _open(folder: Path, name: str) -> Iterator[BinaryIO]:
    """Open a listed file, which may have become something else since it was listed."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise VerificationError(f"not a plain file: {name}", check="LAYOUT", file=name)
            yield file
    except OSError as err:
        raise VerificationError(f"cannot read {name}: {err.strerror}", check="LAYOUT", file=name) from err
