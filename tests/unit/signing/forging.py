"""What a forger can do to a release: with its files alone, or with the true signer's help."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from signing.bundle import parse_bundle
from signing.chain import PARENTS_OF, PREDICATE_OF
from signing.encoding import canonical_json
from signing.manifest import STAGES, stage_path
from signing.signer import Signer

Edit = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Raw:
    """A payload that a signer signs although it is no statement of ours."""

    payload: bytes

    def to_bytes(self) -> bytes:
        return self.payload


def payload_of(folder: Path, stage: str) -> bytes:
    return parse_bundle((folder / stage_path(stage)).read_bytes()).payload


def sign_over(folder: Path, path: str, payload: bytes, signer: Signer, *, now: datetime | None = None) -> None:
    """Replace a bundle by one over another payload."""
    (bundle,) = signer.sign([Raw(payload)], now=now or datetime.now(UTC))  # type: ignore[list-item]
    (folder / path).write_bytes(bundle.to_bytes())


def sign_chain_anew(
    folder: Path, signer: Signer, edits: Mapping[str, Edit], *, rename: bool = True, now: datetime | None = None
) -> None:
    """Edit statements and sign the whole chain anew, each naming those before it as they are then.

    Args:
        folder: The release.
        signer: Who signs.
        edits: What to change in the statement of a stage.
        rename: Whether parents are named anew before the edit of a stage, or left as they were.
        now: When.
    """
    digests: dict[str, str] = {}
    for stage in STAGES:
        document = json.loads(payload_of(folder, stage))
        if rename:
            _name_parents(stage, document["predicate"], digests)
        if stage in edits:
            edits[stage](document)
        payload = canonical_json(document)
        digests[stage] = sha256(payload).hexdigest()
        sign_over(folder, stage_path(stage), payload, signer, now=now)


def plant(folder: Path, signer: Signer, path: str, data: bytes) -> None:
    """Put other bytes of the same length under an artifact's name, and sign everything as if they had been there."""
    names = [path, "decision.json", "manifest.json"]
    changes: dict[bytes, bytes] = {}

    def renewed(raw: bytes) -> bytes:
        for old, new in changes.items():
            raw = raw.replace(old, new)
        return raw

    for name in names:
        old = (folder / name).read_bytes()
        new = data if name == path else renewed(old)
        (folder / name).write_bytes(new)
        changes[sha256(old).hexdigest().encode()] = sha256(new).hexdigest().encode()
    (folder / "SHA256SUMS").write_bytes(renewed((folder / "SHA256SUMS").read_bytes()))
    for bundle in sorted((folder / "attestations").rglob("*.sigstore.json")):
        sign_over(
            folder, bundle.relative_to(folder).as_posix(), renewed(parse_bundle(bundle.read_bytes()).payload), signer
        )
    sign_chain_anew(folder, signer, {})


def _name_parents(stage: str, predicate: dict[str, Any], digests: Mapping[str, str]) -> None:
    if stage == "summary":
        items = {i["uri"]: i for i in predicate["inputAttestations"]}
        for name in PARENTS_OF[stage]:
            items[PREDICATE_OF[name]]["digest"]["sha256"] = digests[name]
        return
    if stage == "provenance":
        listed = predicate["buildDefinition"]["resolvedDependencies"] + predicate["runDetails"]["byproducts"]
    else:
        listed = predicate["parents"]
    for item in listed:
        name = item["name"].removeprefix("statement/")
        if name in digests and item["name"].startswith("statement/"):
            item["digest"]["sha256"] = digests[name]
