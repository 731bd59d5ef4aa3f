"""Sigstore bundle v0.3 with a DSSE envelope and one transparency log entry of kind `dsse` 0.0.1.

Integers are JSON strings and bytes are base64, as protobuf's JSON form has them. Parsing is strict: fields, order and
encodings have one form, so that no byte of a bundle can change without being noticed.
"""

from dataclasses import dataclass
from typing import Any

from signing.encoding import canonical_json, decode_base64, encode_base64, parse_canonical_json, sha256_hex
from signing.statement import PAYLOAD_TYPE

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_INTEGER_MAX = 253_402_300_799  # the last second of the year 9999
_KIND = {"kind": "dsse", "version": "0.0.1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One entry of a transparency log, with its proofs.

    Attributes:
        index: Position in the log.
        log_id: sha256 of the log's public key (DER SubjectPublicKeyInfo).
        integrated_time: Seconds since 1970, vouched for by the log.
        promise: Signed entry timestamp.
        body: Canonical entry body: what was logged.
        proof: Audit path from the entry to the root.
        root: Root hash of the tree.
        size: Leaves in the tree.
        checkpoint: The log's signed note over root and size.
    """

    index: int
    log_id: bytes
    integrated_time: int
    promise: bytes
    body: bytes
    proof: tuple[bytes, ...]
    root: bytes
    size: int
    checkpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A signature with all that is needed to check it offline.

    Attributes:
        certificate: DER of the signing certificate.
        entry: Its log entry.
        payload: The signed payload: an in-toto statement.
        signature: ECDSA P-256/SHA-256 over the payload's DSSE encoding, DER.
    """

    certificate: bytes
    entry: LogEntry
    payload: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """Return the bundle file's bytes."""
        return canonical_json(_to_wire(self))


def parse_bundle(data: bytes) -> Bundle:
    """Parse a bundle file.

    Raises:
        ValueError: Any form but the one that `Bundle.to_bytes` makes.
    """
    try:
        document = parse_canonical_json(data)
        material, envelope = document["verificationMaterial"], document["dsseEnvelope"]
        (entry,) = material["tlogEntries"]
        (signature,) = envelope["signatures"]
        proof = entry["inclusionProof"]
        bundle = Bundle(
            certificate=decode_base64(material["certificate"]["rawBytes"]),
            entry=LogEntry(
                index=_integer(entry["logIndex"]),
                log_id=decode_base64(entry["logId"]["keyId"]),
                integrated_time=_integer(entry["integratedTime"]),
                promise=decode_base64(entry["inclusionPromise"]["signedEntryTimestamp"]),
                body=decode_base64(entry["canonicalizedBody"]),
                proof=tuple(decode_base64(h) for h in proof["hashes"]),
                root=decode_base64(proof["rootHash"]),
                size=_integer(proof["treeSize"]),
                checkpoint=str(proof["checkpoint"]["envelope"]),
            ),
            payload=decode_base64(envelope["payload"]),
            signature=decode_base64(signature["sig"]),
        )
    except (KeyError, TypeError, AttributeError) as err:
        raise ValueError(f"malformed bundle: {type(err).__name__} {err}") from err
    if bundle.to_bytes() != data:  # another media type, an extra field, an index that disagrees with itself
        raise ValueError("not a bundle in the form that this project writes")
    return bundle


def _integer(text: str) -> int:
    """Parse a number that a clock can show and a tree can hold."""
    value = int(text)
    if not 0 <= value <= _INTEGER_MAX:
        raise ValueError(f"number is out of range: {value}")
    return value


def log_body(*, payload: bytes, signature: bytes, certificate_pem: bytes) -> bytes:
    """Return the canonical body of a `dsse` 0.0.1 log entry (Rekor's schema of that name)."""
    envelope_sha256 = sha256_hex(canonical_json(envelope_wire(payload, signature)))
    return canonical_json(
        {
            "apiVersion": _KIND["version"],
            "kind": _KIND["kind"],
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": envelope_sha256},
                "payloadHash": {"algorithm": "sha256", "value": sha256_hex(payload)},
                "signatures": [{"signature": encode_base64(signature), "verifier": encode_base64(certificate_pem)}],
            },
        }
    )


def envelope_wire(payload: bytes, signature: bytes) -> dict[str, Any]:
    """Return the DSSE envelope's JSON form."""
    return {
        "payload": encode_base64(payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": encode_base64(signature)}],
    }


def _to_wire(bundle: Bundle) -> dict[str, Any]:
    entry = bundle.entry
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "certificate": {"rawBytes": encode_base64(bundle.certificate)},
            "tlogEntries": [
                {
                    "logIndex": str(entry.index),
                    "logId": {"keyId": encode_base64(entry.log_id)},
                    "kindVersion": _KIND,
                    "integratedTime": str(entry.integrated_time),
                    "inclusionPromise": {"signedEntryTimestamp": encode_base64(entry.promise)},
                    "inclusionProof": {
                        "logIndex": str(entry.index),
                        "rootHash": encode_base64(entry.root),
                        "treeSize": str(entry.size),
                        "hashes": [encode_base64(h) for h in entry.proof],
                        "checkpoint": {"envelope": entry.checkpoint},
                    },
                    "canonicalizedBody": encode_base64(entry.body),
                }
            ],
        },
        "dsseEnvelope": envelope_wire(bundle.payload, bundle.signature),
    }
