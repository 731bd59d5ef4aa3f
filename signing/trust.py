"""Read a Sigstore `trusted_root.json`: whose word counts, and for which time."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from signing.encoding import decode_base64
from signing.errors import VerificationError

_MALFORMED = (
    *(OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError),
    UnsupportedAlgorithm,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time span; an open end means that it still holds."""

    start: datetime
    end: datetime | None

    def covers(self, moment: datetime) -> bool:
        """Whether a moment lies within."""
        return self.start <= moment and (self.end is None or moment <= self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedLog:
    """A transparency log's or a certificate log's key."""

    key: ec.EllipticCurvePublicKey
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority that signs leaves itself."""

    certificate: x509.Certificate
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRoot:
    """What a verifier trusts. Logs are by key id: sha256 of the DER SubjectPublicKeyInfo."""

    logs: Mapping[bytes, TrustedLog]
    certificate_logs: Mapping[bytes, TrustedLog]
    authorities: tuple[Authority, ...]


def load_trust_root(path: Path) -> TrustRoot:
    """Read a trusted root.

    Raises:
        VerificationError: It is missing or malformed.
    """
    try:
        document = json.loads(path.read_bytes())
        return TrustRoot(
            logs=_logs(document["tlogs"]),
            certificate_logs=_logs(document["ctlogs"]),
            authorities=tuple(_authority(a) for a in document["certificateAuthorities"]),
        )
    except FileNotFoundError as err:
        raise VerificationError(
            f"no trust root at {path}",
            check="TRUST-ROOT",
            hint="name one with --trust-root: the trusted_root.json of the executor that signed",
        ) from err
    except _MALFORMED as err:
        raise VerificationError(f"trust root is malformed: {path}: {err}", check="TRUST-ROOT") from err


def _logs(items: list[dict[str, Any]]) -> dict[bytes, TrustedLog]:
    logs = {}
    for item in items:
        key = load_der_public_key(decode_base64(item["publicKey"]["rawBytes"]))
        if isinstance(key, ec.EllipticCurvePublicKey):
            window = _window(item["publicKey"]["validFor"])
            logs[decode_base64(item["logId"]["keyId"])] = TrustedLog(key=key, window=window)
    return logs


def _authority(item: dict[str, Any]) -> Authority:
    (certificate,) = item["certChain"]["certificates"]
    raw = decode_base64(certificate["rawBytes"])
    return Authority(certificate=x509.load_der_x509_certificate(raw), window=_window(item["validFor"]))


def _window(item: dict[str, str]) -> Window:
    return Window(start=_time(item["start"]), end=_time(item["end"]) if "end" in item else None)


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:  # would mean another moment on another verifier
        raise ValueError(f"time without a zone: {text}")
    return moment.astimezone(UTC)
