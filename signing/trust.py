"""Whose word counts, and for which time: Sigstore's `trusted_root.json`, and this project's trust document around it.

A trust document (`executor.trust/v1`) holds a trusted root, whom to expect, and for each log that was closed the hashes
of the entries that it had: whoever stole a closed log's key can sign times and roots of the past, but cannot make one
of these hashes. A client trust configuration of Sigstore's is read for the trusted root in it. Trust material is the
verifier's own, got by a way that it trusts; it is parsed carefully nevertheless.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from signing.certificate import Certificate, parse_certificate
from signing.ecdsa import PublicKey, load_public_key
from signing.encoding import decode_base64
from signing.errors import VerificationError
from signing.files import read_named
from signing.merkle import HASH_BYTES
from signing.value import Value

TRUST_SCHEMA = "executor.trust/v1"
_CONFIG_TYPE = "application/vnd.dev.sigstore.clienttrustconfig."
_EC_KEYS = ("PKIX_ECDSA_P256_SHA_256", "PKIX_ECDSA_P384_SHA_384")
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


class Window(Value):
    """A time span; an open end means that it still holds."""

    start: datetime
    end: datetime | None

    def covers(self, moment: datetime) -> bool:
        """Whether a moment lies within."""
        return self.start <= moment and (self.end is None or moment <= self.end)


class TrustedLog(Value):
    """A transparency log's or a certificate log's key.

    Attributes:
        key: Its public key.
        window: When it was trusted.
        leaves: For a closed log the hashes of all its entries, one after the other; None where it is not known closed.
    """

    key: PublicKey
    window: Window
    leaves: bytes | None = None

    def holds(self, leaf: int, leaf_hash: bytes) -> bool:
        """Whether a log that is closed had this entry when it was. One that is open is asked nothing."""
        if self.leaves is None:
            return True
        return self.leaves[leaf * HASH_BYTES : (leaf + 1) * HASH_BYTES] == leaf_hash


class Authority(Value):
    """A certificate authority: the certificate that leaves are issued by, then those above it."""

    chain: tuple[Certificate, ...]
    window: Window

    def trusted_at(self, moment: datetime) -> bool:
        """Whether it may have issued a certificate that was used at a moment."""
        return self.window.covers(moment) and all(c.valid_at(moment) for c in self.chain)


class TrustRoot(Value):
    """What a verifier trusts. Logs are by key id: sha256 of the DER SubjectPublicKeyInfo.

    Attributes:
        logs: Transparency logs.
        certificate_logs: Logs of certificates.
        authorities: Certificate authorities.
        subject: Whom the document says to expect, or the empty string.
        issuer: The issuer of that identity, or the empty string.
    """

    logs: Mapping[bytes, TrustedLog]
    certificate_logs: Mapping[bytes, TrustedLog]
    authorities: tuple[Authority, ...]
    subject: str = ""
    issuer: str = ""


def load_trust_root(path: Path) -> TrustRoot:
    """Read a trusted root, a trust document, or a client trust configuration.

    Raises:
        VerificationError: It is missing or malformed.
    """
    try:
        return parse_trust_root(json.loads(read_named(path)))
    except FileNotFoundError as err:
        raise VerificationError(
            f"no trust root at {path}",
            check="TRUST-ROOT",
            hint="name one with --trust-root: what `executor trust export` wrote on the host that signed",
        ) from err
    except OSError as err:
        why = f"cannot read the trust root: {path}: {err.strerror}"
        raise VerificationError(why, check="TRUST-ROOT") from err
    except _MALFORMED as err:
        raise VerificationError(f"trust root is malformed: {path}: {err}", check="TRUST-ROOT") from err


def parse_trust_root(document: Any) -> TrustRoot:
    """Parse a trust root in any of its three forms.

    Raises:
        ValueError: It is none of them. So do KeyError, TypeError, AttributeError and OverflowError.
    """
    closed: dict[bytes, bytes] = {}
    subject = issuer = ""
    if document.get("schema") == TRUST_SCHEMA:
        if set(document) != {"schema", "identity", "issuer", "trusted_root", "closed_logs"}:
            raise ValueError("not a trust document of this version")
        subject, issuer = str(document["identity"]), str(document["issuer"])
        closed = {decode_base64(c["log_id"]): decode_base64(c["leaves"]) for c in document["closed_logs"]}
        document = document["trusted_root"]
    elif str(document.get("mediaType", "")).startswith(_CONFIG_TYPE):
        document = document["trustedRoot"]
    logs = _logs(document["tlogs"], closed)
    if not closed.keys() <= logs.keys():
        raise ValueError("a closed log is not among the trusted ones")
    return TrustRoot(
        logs=logs,
        certificate_logs=_logs(document["ctlogs"], {}),
        authorities=tuple(_authority(a) for a in document["certificateAuthorities"]),
        subject=subject,
        issuer=issuer,
    )


def _logs(items: list[dict[str, Any]], closed: Mapping[bytes, bytes]) -> dict[bytes, TrustedLog]:
    logs = {}
    for item in items:
        if item["publicKey"]["keyDetails"] in _EC_KEYS:  # others sign nothing that is accepted here
            log_id = decode_base64(item["logId"]["keyId"])
            logs[log_id] = TrustedLog(
                key=load_public_key(decode_base64(item["publicKey"]["rawBytes"])),
                window=_window(item["publicKey"]["validFor"]),
                leaves=closed.get(log_id),
            )
    return logs


def _authority(item: dict[str, Any]) -> Authority:
    chain = tuple(parse_certificate(decode_base64(c["rawBytes"])) for c in item["certChain"]["certificates"])
    if not chain:
        raise ValueError("certificate authority without a certificate")
    return Authority(chain=chain, window=_window(item["validFor"]))


def _window(item: dict[str, str]) -> Window:
    return Window(start=_time(item["start"]), end=_time(item["end"]) if "end" in item else None)


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:  # would mean another moment on another verifier
        raise ValueError(f"time without a zone: {text}")
    return moment.astimezone(UTC)
