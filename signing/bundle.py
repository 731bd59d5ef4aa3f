"""Sigstore bundle v0.3 with a DSSE envelope: by a certificate with a log entry, or by a key that the bundle hints at.

Integers are JSON strings and bytes are base64, as protobuf's JSON form has them. Parsing is strict: fields, order and
encodings have one form, so that no byte of a bundle can change without being noticed. Entries are of kind `dsse` 0.0.1,
which every Sigstore client reads; newer kinds are not read by those in use (facts in signing/README.md).
"""

from typing import Any

from signing.encoding import canonical_json, decode_base64, encode_base64, parse_json, sha256_hex
from signing.statement import PAYLOAD_TYPE
from signing.value import Value

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_INTEGER_MAX = 253_402_300_799  # the last second of the year 9999
_KIND = {"kind": "dsse", "version": "0.0.1"}


class LogEntry(Value):
    """One entry of a transparency log, with its proofs.

    Attributes:
        index: Position in the log. Where a log is made of several trees, over all of them.
        log_id: sha256 of the log's public key (DER SubjectPublicKeyInfo).
        integrated_time: Seconds since 1970, vouched for by the log.
        promise: Signed entry timestamp.
        body: Canonical entry body: what was logged.
        leaf: Position in the tree that is proved.
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
    leaf: int
    proof: tuple[bytes, ...]
    root: bytes
    size: int
    checkpoint: str


class ByCertificate(Value):
    """Who signed: the holder of a certified key, as logged.

    Attributes:
        certificate: DER of the signing certificate.
        entry: Its log entry.
    """

    certificate: bytes
    entry: LogEntry


class ByKey(Value):
    """Who signed: the holder of a key that the verifier has.

    Attributes:
        hint: Which one: base64 of sha256 over its DER SubjectPublicKeyInfo, as cosign writes it.
    """

    hint: str


class Bundle(Value):
    """A signature with all that is needed to check it offline.

    Attributes:
        signer: By whom.
        payload: The signed payload: an in-toto statement.
        signature: ECDSA P-256/SHA-256 over the payload's DSSE encoding, DER.
    """

    signer: ByCertificate | ByKey
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
    bundle = read_bundle(parse_json(data))
    if bundle.to_bytes() != data:  # another media type, an extra field, an index that disagrees with itself
        raise ValueError("bundle is not in the canonical form that this project writes")
    return bundle


def read_bundle(document: Any) -> Bundle:
    """Read a bundle of any writer, taking what is known and leaving the rest.

    Raises:
        ValueError: It lacks something, or has several where one is meant.
    """
    try:
        material, envelope = document["verificationMaterial"], document["dsseEnvelope"]
        (signature,) = envelope["signatures"]
        return Bundle(
            signer=_signer(material),
            payload=decode_base64(envelope["payload"]),
            signature=decode_base64(signature["sig"]),
        )
    except (KeyError, TypeError, AttributeError) as err:
        raise ValueError(f"malformed bundle: {type(err).__name__} {err}") from err


def _signer(material: Any) -> ByCertificate | ByKey:
    if "publicKey" in material:
        return ByKey(hint=str(material["publicKey"]["hint"]))
    (entry,) = material["tlogEntries"]
    return ByCertificate(certificate=decode_base64(material["certificate"]["rawBytes"]), entry=_entry(entry))


def _entry(entry: Any) -> LogEntry:
    proof = entry["inclusionProof"]
    if entry["kindVersion"] != _KIND:
        raise ValueError(f"log entry is of another kind: {entry['kindVersion']}")
    return LogEntry(
        index=_integer(entry["logIndex"]),
        log_id=decode_base64(entry["logId"]["keyId"]),
        integrated_time=_integer(entry["integratedTime"]),
        promise=decode_base64(entry["inclusionPromise"]["signedEntryTimestamp"]),
        body=decode_base64(entry["canonicalizedBody"]),
        leaf=_integer(proof["logIndex"]),
        proof=tuple(decode_base64(h) for h in proof["hashes"]),
        root=decode_base64(proof["rootHash"]),
        size=_integer(proof["treeSize"]),
        checkpoint=str(proof["checkpoint"]["envelope"]),
    )


def _integer(text: Any) -> int:
    """Parse a number that a clock can show and a tree can hold, from the string that protobuf's JSON form has it in."""
    if not isinstance(text, str) or not text.isascii() or not text.isdigit():
        raise ValueError(f"not a whole number in a string: {str(text)[:40]!r}")
    value = int(text)
    if value > _INTEGER_MAX:
        raise ValueError(f"number is out of range: {value}")
    return value


def log_body(*, envelope_sha256: str, payload: bytes, signature: bytes, certificate_pem: bytes) -> bytes:
    """Return the canonical body of a `dsse` 0.0.1 log entry (Rekor's schema of that name).

    Args:
        envelope_sha256: Of the envelope in the form in which the log got it, which only its submitter knows.
        payload: What was signed.
        signature: Its signature.
        certificate_pem: The signing certificate.
    """
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


def envelope_sha256(payload: bytes, signature: bytes) -> str:
    """Return the sha256 of the DSSE envelope's canonical form, in hex."""
    return sha256_hex(canonical_json(_envelope_wire(payload, signature)))


def certificate_pem(certificate: bytes) -> bytes:
    """Return a DER certificate as PEM (RFC 7468), in the one form that logs take it in."""
    text = encode_base64(certificate)
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]).encode()


def _envelope_wire(payload: bytes, signature: bytes) -> dict[str, Any]:
    return {
        "payload": encode_base64(payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": encode_base64(signature)}],
    }


def _to_wire(bundle: Bundle) -> dict[str, Any]:
    signer = bundle.signer
    if isinstance(signer, ByKey):
        material: dict[str, Any] = {"publicKey": {"hint": signer.hint}}
    else:
        material = {
            "certificate": {"rawBytes": encode_base64(signer.certificate)},
            "tlogEntries": [_entry_wire(signer.entry)],
        }
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": material,
        "dsseEnvelope": _envelope_wire(bundle.payload, bundle.signature),
    }


def _entry_wire(entry: LogEntry) -> dict[str, Any]:
    return {
        "logIndex": str(entry.index),
        "logId": {"keyId": encode_base64(entry.log_id)},
        "kindVersion": _KIND,
        "integratedTime": str(entry.integrated_time),
        "inclusionPromise": {"signedEntryTimestamp": encode_base64(entry.promise)},
        "inclusionProof": {
            "logIndex": str(entry.leaf),
            "rootHash": encode_base64(entry.root),
            "treeSize": str(entry.size),
            "hashes": [encode_base64(h) for h in entry.proof],
            "checkpoint": {"envelope": entry.checkpoint},
        },
        "canonicalizedBody": encode_base64(entry.body),
    }
