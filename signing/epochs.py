"""The epochs of a local trust domain, and what verifiers are given of them. `domain.json` says which there are."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from signing import ecdsa
from signing.authority import key_id, spki
from signing.domain import DOMAIN_FILE, TRUST_DOCUMENT, TRUSTED_ROOT, identity_of
from signing.ecdsa import PublicKey
from signing.encoding import canonical_json, encode_base64
from signing.errors import TrustDomainError
from signing.files import write_whole
from signing.log import DiskLog
from signing.trust import TRUST_SCHEMA

_SCHEMA = "executor.trust-domain/v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A time with keys and a log of its own.

    Attributes:
        number: From 1 on.
        start: When it began.
        end: When it was closed, or None for the one that goes on.
        closed_size: How many entries of its log count; None while it goes on.
        reason: Why it was closed: `rotated`, or what was said at revocation.
    """

    number: int
    start: datetime
    end: datetime | None = None
    closed_size: int | None = None
    reason: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Return the recorded form."""
        return {
            "number": self.number,
            "start": _stamp(self.start),
            "end": _stamp(self.end) if self.end else None,
            "closed_size": self.closed_size,
            "reason": self.reason,
        }


def epoch_folder(folder: Path, number: int) -> Path:
    """Return where an epoch's keys and log lie."""
    return folder / "epochs" / str(number)


def log_host(kind: str, domain_id: str, number: int) -> str:
    """Return the name of an epoch's log or authority, in a domain that can never be reached (RFC 6761, section 6.4).

    It is the origin of the log's checkpoints as well, for @sigstore/verify wants to find it in the log's address.
    """
    return f"{kind}.{domain_id}-{number}.invalid"


def write_epochs(folder: Path, domain_id: str, epochs: tuple[Epoch, ...]) -> None:
    """Write which epochs there are. What follows from them goes first, and is written anew by whoever opens next."""
    (folder / TRUST_DOCUMENT).unlink(missing_ok=True)
    document = {"schema": _SCHEMA, "id": domain_id, "epochs": [e.to_wire() for e in epochs]}
    write_whole(folder / DOMAIN_FILE, canonical_json(document), mode=0o644)


def read_epochs(folder: Path) -> tuple[str, tuple[Epoch, ...]]:
    """Read a domain's id and its epochs, the open one last.

    Raises:
        TrustDomainError: It cannot be read, or is damaged.
    """
    try:
        document = json.loads((folder / DOMAIN_FILE).read_bytes())
        if document["schema"] != _SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}, not {_SCHEMA!r}")
        epochs = tuple(
            Epoch(
                number=e["number"],
                start=datetime.fromisoformat(e["start"]),
                end=datetime.fromisoformat(e["end"]) if e["end"] else None,
                closed_size=e["closed_size"],
                reason=e["reason"],
            )
            for e in document["epochs"]
        )
        if [e.number for e in epochs] != list(range(1, len(epochs) + 1)) or epochs[-1].end is not None:
            raise ValueError("its epochs are not in order")
        return str(document["id"]), epochs
    except OSError as err:
        raise TrustDomainError(f"cannot read the trust domain: {folder}: {err.strerror}") from err
    except (KeyError, TypeError, ValueError, IndexError) as err:
        raise TrustDomainError(
            f"trust domain is damaged: {folder}: {err}", hint="restore it from a backup, or move it away for a new one"
        ) from err


def trust_documents(folder: Path, domain_id: str, epochs: tuple[Epoch, ...]) -> dict[str, bytes]:
    """Return what verifiers need, by file name: the trust document, and the trusted root in it for stock clients.

    Raises:
        TrustDomainError: A log of a closed epoch is not what it was.
    """
    identity, root = identity_of(domain_id), _trusted_root(folder, domain_id, epochs)
    closed = []
    for epoch in epochs[:-1]:
        key = log_key(folder, epoch.number)
        leaves = DiskLog(epoch_folder(folder, epoch.number) / "log", key).leaves(epoch.closed_size or 0)
        closed.append({"log_id": encode_base64(key_id(key)), "leaves": encode_base64(b"".join(leaves))})
    document = {
        "schema": TRUST_SCHEMA,
        "identity": identity.subject,
        "issuer": identity.issuer,
        "trusted_root": root,
        "closed_logs": closed,
    }
    return {name: json.dumps(d, indent=2).encode() for name, d in ((TRUST_DOCUMENT, document), (TRUSTED_ROOT, root))}


def write_trust(folder: Path, documents: Mapping[str, bytes]) -> None:
    """Write what verifiers need."""
    for name, data in documents.items():
        write_whole(folder / name, data, mode=0o644)


def trust_is_written(folder: Path) -> bool:
    """Whether the documents for verifiers are those of the epochs that there are."""
    path = folder / TRUSTED_ROOT
    wanted = json.dumps(_trusted_root(folder, *read_epochs(folder)), indent=2).encode()
    return path.exists() and path.read_bytes() == wanted and (folder / TRUST_DOCUMENT).exists()


def log_key(folder: Path, number: int, kind: str = "tlog") -> PublicKey:
    """Return the public key of an epoch's log.

    Raises:
        TrustDomainError: It is missing or damaged.
    """
    path = epoch_folder(folder, number) / f"{kind}.spki"
    try:
        return ecdsa.load_public_key(path.read_bytes())
    except OSError as err:
        raise TrustDomainError(f"cannot read the log's key: {path}: {err.strerror}") from err
    except ValueError as err:
        raise TrustDomainError(f"log's key is damaged: {path}: {err}", hint="restore it from a backup") from err


def _trusted_root(folder: Path, domain_id: str, epochs: tuple[Epoch, ...]) -> dict[str, Any]:
    """Return Sigstore's trusted root over all epochs, each with its window."""
    parts = [_epoch_root(folder, domain_id, epoch) for epoch in epochs]
    return {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [part["tlog"] for part in parts],
        "certificateAuthorities": [part["ca"] for part in parts],
        "ctlogs": [part["ctlog"] for part in parts],
        "timestampAuthorities": [],
    }


def _epoch_root(folder: Path, domain_id: str, epoch: Epoch) -> dict[str, Any]:
    place = epoch_folder(folder, epoch.number)
    window = {"start": _stamp(epoch.start)} | ({"end": _stamp(epoch.end)} if epoch.end else {})

    def log(kind: str) -> dict[str, Any]:
        key = log_key(folder, epoch.number, kind)
        return {
            "baseUrl": f"https://{log_host(kind, domain_id, epoch.number)}",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": encode_base64(spki(key)),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": window,
            },
            "logId": {"keyId": encode_base64(key_id(key))},
        }

    certificate = load_ca(place).public_bytes(Encoding.DER)
    authority = {
        "subject": {"organization": "sealed-executor", "commonName": f"local trust domain {domain_id}"},
        "uri": f"https://{log_host('ca', domain_id, epoch.number)}",
        "certChain": {"certificates": [{"rawBytes": encode_base64(certificate)}]},
        "validFor": window,
    }
    return {"tlog": log("tlog"), "ctlog": log("ctlog"), "ca": authority}


def load_ca(place: Path) -> x509.Certificate:
    """Load the certificate of an epoch's authority."""
    try:
        return x509.load_pem_x509_certificate((place / "ca.pem").read_bytes())
    except OSError as err:
        raise TrustDomainError(f"cannot read the certificate authority: {place}: {err.strerror}") from err
    except ValueError as err:
        raise TrustDomainError(f"certificate authority is damaged: {place}: {err}") from err


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
