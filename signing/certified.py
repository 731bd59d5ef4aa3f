"""Verify signatures by certificates: the chain of trust from a trust root to a logged signature.

The order is that of trust: the certificate that the trust root vouches for, then whom it names, then the log that says
when it was used, then the signature.
"""

from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256

from signing import certificate as x509
from signing import merkle
from signing.bundle import Bundle, ByCertificate, LogEntry, certificate_pem, log_body
from signing.ecdsa import PublicKey, verify_bound_signature, verify_signature
from signing.encoding import canonical_json, encode_base64, pae, parse_canonical_json
from signing.errors import VerificationError
from signing.note import parse_checkpoint
from signing.statement import PAYLOAD_TYPE
from signing.trust import Authority, TrustRoot
from signing.value import Value


class _Certified(Value):
    """A certificate that a trusted authority issued and a trusted log saw."""

    leaf: x509.Certificate
    authority: Authority


class CertificateVerifier:
    """Verifies signatures by certificates; what several have in common is checked once.

    Args:
        trust: Whose word counts.

    Attributes:
        unknown_closed: Whether an entry was of a closed log of which the trust root does not say what it held.
    """

    def __init__(self, trust: TrustRoot) -> None:
        self._trust = trust
        self._certified: dict[bytes, _Certified] = {}
        self._checkpoints: set[tuple[bytes, str]] = set()
        self.unknown_closed = False

    def verify(self, bundle: Bundle, signer: ByCertificate, *, file: str) -> tuple[tuple[str, str], datetime]:
        """Verify a signature by a certificate.

        Returns:
            Whom the certificate names and the issuer of that identity, and when the signature was logged.

        Raises:
            VerificationError: Some check does not hold; it names the check and the file.
        """
        logged_at = datetime.fromtimestamp(signer.entry.integrated_time, UTC)
        certified = self._check_certificate(signer.certificate, logged_at, file)
        named = _named(certified.leaf, file)
        self._check_log(signer.entry, logged_at, file)
        self._check_body(bundle, signer, file)
        try:  # the log's entry binds the signature's bytes, so either form of it will do
            data = pae(PAYLOAD_TYPE, bundle.payload)
            verify_bound_signature(certified.leaf.key, bundle.signature, data, SHA256())
        except InvalidSignature as err:
            raise VerificationError(f"signature does not hold: {file}", check="SIGNATURE", file=file) from err
        return named, logged_at

    def _check_certificate(self, raw: bytes, logged_at: datetime, file: str) -> _Certified:
        try:
            certified = self._certified.get(raw) or _certify(raw, self._trust)
            if not certified.authority.trusted_at(logged_at):
                raise ValueError("certificate authority was not trusted at the time of signing")
            if not certified.leaf.valid_at(logged_at):
                raise ValueError("certificate was not valid at the time of signing")
        except ValueError as err:
            raise VerificationError(f"{err}: {file}", check="CERTIFICATE", file=file) from err
        self._certified[raw] = certified
        return certified

    def _check_log(self, entry: LogEntry, logged_at: datetime, file: str) -> None:
        log = self._trust.logs.get(entry.log_id)
        try:
            if log is None or not log.window.covers(logged_at):
                raise ValueError("entry is of no log that was trusted at that time")
            leaf = merkle.leaf_hash(entry.body)
            if merkle.root_from_proof(leaf, index=entry.leaf, size=entry.size, proof=entry.proof) != entry.root:
                raise ValueError("inclusion proof leads to another root")
            self._check_checkpoint(entry, log.key)
            _check_promise(entry, log.key)
        except ValueError as err:
            raise VerificationError(f"{err}: {file}", check="LOG", file=file) from err
        self.unknown_closed |= log.window.end is not None and log.leaves is None
        if not log.holds(entry.leaf, leaf):
            raise VerificationError(
                f"entry is not one that the log had when it was closed: {file}", check="REVOKED", file=file
            )

    def _check_checkpoint(self, entry: LogEntry, key: PublicKey) -> None:
        checkpoint = parse_checkpoint(entry.checkpoint)
        if (entry.log_id, entry.checkpoint) not in self._checkpoints:
            _signed(key, checkpoint.signature, checkpoint.text.encode(), "checkpoint's signature does not hold")
            self._checkpoints.add((entry.log_id, entry.checkpoint))
        if (checkpoint.size, checkpoint.root, checkpoint.key_hint) != (entry.size, entry.root, entry.log_id[:4]):
            raise ValueError("checkpoint is of another tree")

    def _check_body(self, bundle: Bundle, signer: ByCertificate, file: str) -> None:
        """An entry must be of what it is shown with (CVE-2022-36056)."""
        try:
            logged = parse_canonical_json(signer.entry.body)["spec"]["envelopeHash"]["value"]
            expected = log_body(
                envelope_sha256=str(logged),
                payload=bundle.payload,
                signature=bundle.signature,
                certificate_pem=certificate_pem(signer.certificate),
            )
        except (ValueError, KeyError, TypeError) as err:
            raise VerificationError(f"entry's body is malformed: {file}", check="LOG", file=file) from err
        if expected != signer.entry.body:
            raise VerificationError(f"entry is of another signature: {file}", check="LOG", file=file)


def _named(leaf: x509.Certificate, file: str) -> tuple[str, str]:
    try:
        return x509.identity_in(leaf)
    except ValueError as err:
        raise VerificationError(f"certificate names nobody: {err}: {file}", check="IDENTITY", file=file) from err


def _certify(raw: bytes, trust: TrustRoot) -> _Certified:
    leaf = x509.parse_certificate(raw)
    x509.check_signing_profile(leaf)
    authority = next((a for a in trust.authorities if _issued_by(leaf, a)), None)
    if authority is None:
        raise ValueError("certificate was issued by no trusted authority")
    sct = x509.sct_in(leaf)
    log = trust.certificate_logs.get(sct.log_id)
    if log is None or not log.window.covers(sct.moment):
        raise ValueError("certificate was logged by no trusted certificate log")
    x509.check_sct(leaf, authority.chain[0], sct, log.key)
    return _Certified(leaf=leaf, authority=authority)


def _issued_by(leaf: x509.Certificate, authority: Authority) -> bool:
    links = zip((leaf, *authority.chain), authority.chain, strict=False)
    try:
        for below, above in links:
            x509.check_issued_by(below, above)
    except ValueError:
        return False
    return True


def _check_promise(entry: LogEntry, key: PublicKey) -> None:
    promised = {
        "body": encode_base64(entry.body),
        "integratedTime": entry.integrated_time,
        "logID": entry.log_id.hex(),
        "logIndex": entry.index,
    }
    _signed(key, entry.promise, canonical_json(promised), "entry's timestamp does not hold")


def _signed(key: PublicKey, signature: bytes, data: bytes, why: str) -> None:
    try:
        verify_signature(key, signature, data)
    except InvalidSignature as err:
        raise ValueError(why) from err
