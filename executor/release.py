"""The release: staged, hashed again, signed, verified with the consumer's own code, and renamed into place.

Complete or absent: until the last rename nothing exists under the release's name.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from executor.errors import HostError, RequestError
from executor.gate import Approved
from signing.domain import TRUSTED_ROOT
from signing.encoding import canonical_json, sha256_hex
from signing.local import LocalSigner, LocalTrustDomain
from signing.manifest import BUNDLE_SUFFIX, CHECKSUMS, MANIFEST, PROVENANCE, Manifest, ManifestFile
from signing.statement import PREDICATE_ARTIFACT, PREDICATE_MANIFEST, PREDICATE_PROVENANCE, Statement
from signing.trust import load_trust_root
from signing.verify import Expectations, Verified, verify_release

_CHUNK = 1 << 20
_MEDIA_TYPES = {
    "onnx": "application/onnx",
    "torchscript": "application/x-torchscript",
    "npz": "application/x-npz",
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseContent:
    """What goes into a release beside the artifacts.

    Attributes:
        run_id: The run.
        formats: Recognised format by artifact name.
        plan: The launch plan's recorded form.
        decision: The decision's recorded form.
        details: For the manifest.
        provenance: SLSA v1 predicate.
    """

    run_id: str
    formats: Mapping[str, str]
    plan: Mapping[str, Any]
    decision: Mapping[str, Any]
    details: Mapping[str, Any]
    provenance: Mapping[str, Any]


def check_target(target: Path) -> None:
    """Refuse a release directory that exists, before any work is done for it.

    Raises:
        RequestError: There is something at that path, or no folder to put it in.
    """
    try:
        str(target).encode()
    except UnicodeEncodeError as err:
        raise RequestError(f"the name of the release directory is not Unicode: {str(target)!r}") from err
    if target.exists() or target.is_symlink():
        raise RequestError(f"release directory exists already: {target}", hint="name a new one with --out")
    if not target.parent.is_dir():
        raise RequestError(f"no folder to put the release in: {target.parent}")


def staging_path(target: Path, run_id: str) -> Path:
    """Return where a release is staged: beside its target, so that the last rename is atomic."""
    return target.parent / f".{target.name}.{run_id}.partial"


def release(
    approved: Approved,
    content: ReleaseContent,
    *,
    target: Path,
    domain: LocalTrustDomain,
    now: Callable[[], datetime],
    before_naming: Callable[[Verified], None],
) -> Verified:
    """Stage, sign, verify and rename a release.

    Args:
        approved: The gate's word.
        content: What is recorded beside the artifacts.
        target: Where it shall be. Must not exist.
        domain: Signs it.
        now: The clock.
        before_naming: Told of the release when it is complete, verified and on the disk, and has no name yet.

    Raises:
        HostError: An artifact changed since it was received, or the target appeared meanwhile.
        SigningError: It could not be signed, or does not verify.
    """
    staging = staging_path(target, content.run_id)
    staging.mkdir(mode=0o755)
    try:
        manifest = _stage(approved, content, staging)
        with domain.signer(now=now()) as signer:
            _sign(signer, manifest, content, staging)
        trust = load_trust_root(domain.folder / TRUSTED_ROOT)
        identity = domain.identity
        verified = verify_release(staging, Expectations(trust=trust, subject=identity.subject, issuer=identity.issuer))
        _sync(staging)
        before_naming(verified)
        _rename(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return verified


def withdraw(target: Path, run_id: str) -> None:
    """Take back a release that the run cannot stand by: its name goes first, its content after."""
    staging = staging_path(target, run_id)
    target.rename(staging)
    shutil.rmtree(staging, ignore_errors=True)


def _stage(approved: Approved, content: ReleaseContent, staging: Path) -> Manifest:
    (staging / "artifacts").mkdir()
    files = []
    for artifact in approved.artifacts:
        path = f"artifacts/{artifact.name}"
        target = staging / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if _copy_hashed(artifact.path, target) != artifact.sha256:
            raise HostError(f"artifact changed between collection and staging: {artifact.name}")
        media_type = _MEDIA_TYPES.get(content.formats[artifact.name], "application/octet-stream")
        files.append(
            ManifestFile(
                path=path, size=artifact.size, sha256=artifact.sha256, media_type=media_type, role=artifact.role
            )
        )
    for name, value in (("plan.json", content.plan), ("decision.json", content.decision)):
        data = canonical_json(value)
        _write(staging / name, data)
        role = name.removesuffix(".json")
        files.append(
            ManifestFile(path=name, size=len(data), sha256=sha256_hex(data), media_type="application/json", role=role)
        )
    ordered = tuple(sorted(files, key=lambda f: f.path))
    return Manifest(run_id=content.run_id, files=ordered, details=content.details)


def _sign(signer: LocalSigner, manifest: Manifest, content: ReleaseContent, staging: Path) -> None:
    raw = manifest.to_bytes()
    digest = sha256_hex(raw)
    _write(staging / MANIFEST, raw)
    _write(staging / CHECKSUMS, manifest.checksums())

    def put(path: str, subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]) -> None:
        statement = Statement(subjects=subjects, predicate_type=predicate_type, predicate=predicate)
        _write(staging / path, signer.sign(statement).to_bytes())

    for item in manifest.files:
        claim = {"run_id": manifest.run_id, "role": item.role, "size": item.size, "manifest_sha256": digest}
        put(item.path + BUNDLE_SUFFIX, {item.path: item.sha256}, PREDICATE_ARTIFACT, claim)
    subjects = {f.path: f.sha256 for f in manifest.files} | {MANIFEST: digest}
    put(PROVENANCE, subjects, PREDICATE_PROVENANCE, content.provenance)
    put(MANIFEST + BUNDLE_SUFFIX, {MANIFEST: digest}, PREDICATE_MANIFEST, {"run_id": manifest.run_id})


def _copy_hashed(source: Path, target: Path) -> str:
    """Copy into a new file of the host's, hashing the bytes that are written."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
    target.chmod(0o644)
    return digest.hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
    path.chmod(0o644)


def _sync(folder: Path) -> None:
    """Have the disk hold everything before the name exists."""
    for path in [*folder.rglob("*"), folder]:
        _sync_one(path)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(staging: Path, target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise HostError(f"release directory appeared while the job ran: {target}")
    try:
        staging.rename(target)  # fails, and does not merge, if a folder with content came in between
        _sync_one(target.parent)
    except OSError as err:
        raise HostError(f"cannot put the release in place: {target}: {err.strerror}") from err
