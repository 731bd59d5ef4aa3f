"""The attestation of a staged release: its manifest, and the signed statements on it and on each artifact."""

from datetime import datetime
from pathlib import Path

from executor.release.stage import ReleaseContent
from executor.release.statements import Chain, parents, summary
from signing.chain import PREDICATE_OF
from signing.encoding import sha256_hex
from signing.files import create, make_folder
from signing.manifest import CHECKSUMS, FILE_MODE, FOLDER_MODE, MANIFEST, Manifest, stage_path
from signing.signer import Signer
from signing.statement import PREDICATE_ARTIFACT, Statement
from signing.verify import artifact_claim


def attest(signer: Signer, manifest: Manifest, content: ReleaseContent, staging: Path, *, now: datetime) -> None:
    """Write a staged release's manifest, and sign all that is stated of it.

    Args:
        signer: Signs.
        manifest: The manifest.
        content: What is recorded beside the artifacts.
        staging: Where the release lies.
        now: Time of signing.

    Raises:
        SigningError: It could not be signed.
        OSError: A file could not be written.
    """
    raw = manifest.to_bytes()
    digest = sha256_hex(raw)
    create(staging / MANIFEST, raw, mode=FILE_MODE)
    create(staging / CHECKSUMS, manifest.checksums(), mode=FILE_MODE)
    chain = _complete_chain(manifest, digest, content, now)
    own_bundles = manifest.own_bundles
    own = [
        Statement(
            subjects={item.path: item.sha256},
            predicate_type=PREDICATE_ARTIFACT,
            predicate=artifact_claim(item, run_id=manifest.run_id, manifest_sha256=digest),
        )
        for item in manifest.artifacts
        if item.path in own_bundles
    ]
    bundles = signer.sign([*chain.values(), *own], now=now)
    paths = [*map(stage_path, chain), *own_bundles.values()]
    for path, bundle in zip(paths, bundles, strict=True):
        make_folder((staging / path).parent, mode=FOLDER_MODE, parents=True, exist_ok=True)
        create(staging / path, bundle.to_bytes(), mode=FILE_MODE)


def _complete_chain(manifest: Manifest, manifest_sha256: str, content: ReleaseContent, now: datetime) -> Chain:
    """Add provenance, release and summary to what the run has said so far."""
    chain = dict(content.chain)
    everything = {f.path: f.sha256 for f in manifest.files} | {MANIFEST: manifest_sha256}
    chain["provenance"] = Statement(
        subjects=everything, predicate_type=PREDICATE_OF["provenance"], predicate=content.provenance
    )
    claim = {"run_id": manifest.run_id, "parents": parents("release", chain)}
    chain["release"] = Statement(subjects=everything, predicate_type=PREDICATE_OF["release"], predicate=claim)
    decided = {f.path: f.sha256 for f in manifest.artifacts} | {MANIFEST: manifest_sha256}
    chain["summary"] = summary(content.record, chain, subjects=decided, verified=now)
    return chain
