"""In-toto Statement v1: what a signature says, about which files."""

import re
from collections.abc import Mapping
from typing import Any

from signing.encoding import canonical_json, parse_json, sha256_hex
from signing.value import Value, kept

_HEX = re.compile(r"[0-9a-f]{64}")
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_REQUEST = "urn:sealed-executor:request:v1"
PREDICATE_SANDBOX = "urn:sealed-executor:sandbox:v1"
PREDICATE_DECISION = "urn:sealed-executor:decision:v1"
PREDICATE_PROVENANCE = "https://slsa.dev/provenance/v1"
PREDICATE_RELEASE = "urn:sealed-executor:release:v1"
PREDICATE_SUMMARY = "https://slsa.dev/verification_summary/v1"
PREDICATE_ARTIFACT = "urn:sealed-executor:artifact:v1"
PREDICATE_RECORD = "urn:sealed-executor:record:v1"
PREDICATE_REPRODUCTION = "urn:sealed-executor:reproduction:v1"
# What a reproduction can come to that a verifier may accept.
GOOD_RESULTS = ("identical", "within-tolerance")


class Statement(Value):
    """A statement about files.

    Attributes:
        subjects: sha256 in hex by name. Never empty.
        predicate_type: What kind of claim it is.
        predicate: The claim.
    """

    _hidden = ("_payload",)
    subjects: Mapping[str, str]
    predicate_type: str
    predicate: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not self.subjects:
            raise ValueError("a statement without subjects says nothing")

    @property
    def sha256(self) -> str:
        """Digest of the payload in hex, by which other statements name this one."""
        return sha256_hex(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the canonical payload."""
        return kept(self, "_payload", self._make_payload)

    def _make_payload(self) -> bytes:
        return canonical_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": n, "digest": {"sha256": d}} for n, d in sorted(self.subjects.items())],
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )


def parse_statement(payload: bytes) -> Statement:
    """Parse a payload that `Statement.to_bytes` made.

    Raises:
        ValueError: Another form, a value of another type, a repeated subject or none.
    """
    try:
        document = parse_json(payload)
        if document["_type"] != STATEMENT_TYPE or set(document) != {"_type", "subject", "predicateType", "predicate"}:
            raise ValueError("not an in-toto Statement v1")
        pairs = [(s["name"], s["digest"]["sha256"]) for s in document["subject"]]
        subjects = dict(pairs)
        if len(subjects) != len(pairs):
            raise ValueError("a subject stands twice")
        if not all(isinstance(name, str) and _HEX.fullmatch(digest) for name, digest in pairs):
            raise ValueError("a subject is not a name with a sha256")
        kind, predicate = document["predicateType"], document["predicate"]
        if not isinstance(kind, str) or not isinstance(predicate, dict):
            raise ValueError("a predicate is an object, and its type a string")
        statement = Statement(subjects=subjects, predicate_type=kind, predicate=predicate)
    except (KeyError, TypeError) as err:
        raise ValueError(f"malformed statement: {err}") from err
    if statement.to_bytes() != payload:
        raise ValueError("statement is not in canonical form")
    return statement
