"""The release: staged, hashed again, signed, verified with the consumer's own code, and renamed into place.

Complete or absent: until the last rename nothing exists under the release's name.
"""

import contextlib
import ctypes
import errno
import gc
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from executor.errors import HostError, RequestError, UnsupportedError, host_error
from executor.release.gate import Approved
from executor.release.statements import Chain, parents, summary
from executor.state.home import Home
from executor.transfer.quarantine import Artifact
from signing.bundle import MEDIA_TYPE
from signing.chain import PREDICATE_OF
from signing.encoding import canonical_json, sha256_hex
from signing.files import create, make_folder, remove_folder
from signing.layout import for_each, hash_descriptor
from signing.manifest import (
    ARTIFACTS,
    CHECKSUMS,
    DECISION,
    FILE_MODE,
    FOLDER_MODE,
    MANIFEST,
    PLAN,
    Manifest,
    ManifestFile,
    own_bundle_path,
    stage_path,
)
from signing.oms import OMS_FILE, oms_statement, sign_oms
from signing.signer import Signer
from signing.statement import PREDICATE_ARTIFACT, Statement
from signing.verify import Verified, artifact_claim, verify_release

_MEDIA_TYPES = {
    "onnx": "application/onnx",
    "torchscript": "application/x-torchscript",
    "pt2": "application/x-pt2",
    "npz": "application/x-npz",
    "npy": "application/x-npy",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.file",
    "safetensors": "application/x-safetensors",
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
}
_PATH_BYTES_MAX = 4096  # PATH_MAX, with its null byte
_SYNC_EACH_MAX = 256  # fsync of each of 5,000 files took 0.2 s CPU, syncfs 0.001 s (measured 2026-11-24)
_DOCUMENTS = {
    PLAN: ("application/json", "plan"),
    DECISION: ("application/json", "decision"),
    OMS_FILE: (MEDIA_TYPE, "model-signature"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseContent:
    """What goes into a release beside the artifacts.

    Attributes:
        record: The run's record so far, with its plan and its decision.
        chain: The statements of the run so far: request, sandbox and decision.
        formats: Recognised format by artifact name.
        details: For the manifest.
        provenance: SLSA v1 predicate.
        also_oms: Whether to sign the artifacts in OpenSSF's model-signing format as well.
    """

    record: Mapping[str, Any]
    chain: Chain
    formats: Mapping[str, str]
    details: Mapping[str, Any]
    provenance: Mapping[str, Any]
    also_oms: bool = False

    @property
    def run_id(self) -> str:
        """The run."""
        return str(self.record["run_id"])


def check_name(target: Path) -> None:
    """Refuse a name that no record can hold.

    Raises:
        RequestError: It is not Unicode.
    """
    try:
        str(target).encode()
    except UnicodeEncodeError as err:
        raise RequestError(f"the name of the release directory is not Unicode: {str(target)!r}") from err


def check_target(target: Path, home: Home, *, names: Iterable[str] = ()) -> None:
    """Refuse a place where no release can be put, before any work is done for it.

    Args:
        target: The release directory.
        home: The state directory, which holds releases in one place alone.
        names: Artifacts that the release may hold, by their paths in it.

    Raises:
        RequestError: There is something at that path, no folder to put it in, none that can be written to, or it lies
            in the state directory, most of which is swept.
        HostError: The file system that it would be on cannot be written to for now.
    """
    parent = target.parent
    staging = staging_path(target, f"probe-{os.urandom(8).hex()}")
    try:
        place, state = parent.resolve(), home.root.resolve()
        if place.is_relative_to(state) and not place.is_relative_to(state / "releases"):
            raise RequestError(
                f"the release directory lies in the executor's own state directory: {target}",
                hint="name another with --out; without it the release goes to releases/ there",
            )
        with contextlib.suppress(FileNotFoundError):
            target.lstat()
            raise RequestError(f"release directory exists already: {target}", hint="name a new one with --out")
        if not parent.is_dir():
            raise RequestError(f"no folder to put the release in: {parent}")
        longest = max((len(os.fsencode(own_bundle_path(name))) for name in names), default=0)
        if len(os.fsencode(staging)) + longest + 1 >= _PATH_BYTES_MAX:
            raise RequestError(f"the path of the release directory is too long for what is put in it: {target}")
        # Done, not asked: access(2) knows neither a name that is too long nor a full or read-only file system.
        make_folder(staging, mode=FOLDER_MODE)
        staging.rmdir()
    except OSError as err:
        failure = host_error(err, f"no release can be put at {target}")
        if isinstance(failure, UnsupportedError):
            raise RequestError(failure.message, hint="name another place with --out") from err
        raise failure from err
    except RuntimeError as err:  # resolve(), of links that lead in a circle
        raise RequestError(f"no release can be put at {target}: {err}") from err


def staging_path(target: Path, run_id: str) -> Path:
    """Return where a release is staged: beside its target, so that the last rename is atomic.

    Its name does not hold the target's, which may be as long as a name can be.
    """
    return target.parent / f".{run_id}.partial"


def release(
    approved: Approved,
    content: ReleaseContent,
    *,
    target: Path,
    signer: Signer,
    now: Callable[[], datetime],
    before_naming: Callable[[Verified], None],
    named: Callable[[], None] = lambda: None,
) -> Verified:
    """Stage, sign, verify and rename a release.

    Args:
        approved: The gate's word.
        content: What is recorded beside the artifacts.
        target: Where it shall be. Must not exist.
        signer: Signs it.
        now: The clock.
        before_naming: Told of the release when it is complete, verified and on the disk, and has no name yet.
        named: Told as soon as it has its name, before anything else can fail.

    Raises:
        HostError: An artifact changed since it was received, or a file could not be written.
        RequestError: The target appeared meanwhile.
        SigningError: It could not be signed, or does not verify.
    """
    staging = staging_path(target, content.run_id)
    make_folder(staging, mode=FOLDER_MODE)
    collecting = gc.isenabled()
    gc.disable()  # thousands of small values and no cycles: collecting took a fifth of the time (measured 2026-11-24)
    try:
        documents = {PLAN: canonical_json(content.record["plan"]), DECISION: canonical_json(content.record["decision"])}
        if content.also_oms:
            digests = {a.name: a.sha256 for a in approved.artifacts}
            documents[OMS_FILE] = sign_oms(signer, oms_statement(ARTIFACTS, digests), now=now())
        manifest = _stage(approved, content, documents, staging)
        _sign(signer, manifest, content, staging, now=now())
        # The consumer's own code; what was hashed while it was staged is not read once more.
        hashed = {f.path for f in manifest.artifacts}
        verified = verify_release(staging, signer.expectations(), hashed=hashed)
        _sync(staging)
        before_naming(verified)
        _rename(staging, target, named)
    finally:
        if collecting:
            gc.enable()
        remove_folder(staging)
    return verified


def withdraw(target: Path, run_id: str) -> None:
    """Take back a release that the run cannot stand by: its name goes first, its content after.

    Raises:
        OSError: It still has its name.
    """
    staging = staging_path(target, run_id)
    target.rename(staging)
    with contextlib.suppress(OSError):
        _sync_one(target.parent)
    remove_folder(staging)


def _stage(approved: Approved, content: ReleaseContent, documents: Mapping[str, bytes], staging: Path) -> Manifest:
    for folder in sorted({a.name.rpartition("/")[0] for a in approved.artifacts}):
        make_folder(staging / ARTIFACTS / folder, mode=FOLDER_MODE, parents=True, exist_ok=True)
    place = f"{staging}/{ARTIFACTS}"
    for_each(lambda a: _stage_artifact(a, f"{place}/{a.name}"), approved.artifacts, size=lambda a: a.size)
    files = [
        ManifestFile(
            path=f"{ARTIFACTS}/{artifact.name}",
            size=artifact.size,
            sha256=artifact.sha256,
            media_type=_MEDIA_TYPES.get(content.formats[artifact.name], "application/octet-stream"),
            role=artifact.role,
        )
        for artifact in approved.artifacts
    ]
    for path, data in documents.items():
        create(staging / path, data, mode=FILE_MODE)
        media_type, role = _DOCUMENTS[path]
        files.append(ManifestFile(path=path, size=len(data), sha256=sha256_hex(data), media_type=media_type, role=role))
    ordered = tuple(sorted(files, key=lambda f: f.path))
    return Manifest(run_id=content.run_id, files=ordered, details=content.details)


def _stage_artifact(artifact: Artifact, target: str) -> None:
    """Bring an artifact's bytes under its name in the release, and hash what lies there then.

    Raises:
        HostError: They are not those that were received.
    """
    try:
        os.link(artifact.path, target)  # the quarantine's name for it goes with the run's folder
    except OSError:  # another file system, or one that has no links
        shutil.copyfile(artifact.path, target)
    descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, FILE_MODE)
        size = os.fstat(descriptor).st_size
        if size != artifact.size or hash_descriptor(descriptor, size) != artifact.sha256:
            raise HostError(f"artifact changed between collection and staging: {artifact.name}")
    finally:
        os.close(descriptor)


def _sign(signer: Signer, manifest: Manifest, content: ReleaseContent, staging: Path, *, now: datetime) -> None:
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


def _sync(folder: Path) -> None:
    """Have the disk hold everything before the name exists: each file, or, of many, the file system at once."""
    found = [(place, name) for place, _, names in os.walk(folder) for name in ("", *names)]
    if len(found) > _SYNC_EACH_MAX and _sync_file_system(folder):
        return
    for place, name in found:
        _sync_one(f"{place}/{name}")


def _sync_file_system(folder: Path) -> bool:
    """Call syncfs(2), which Python does not have. It reports failures to write since Linux 5.8; False if it does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return bool(ctypes.CDLL(None, use_errno=True).syncfs(descriptor) == 0)
    except (OSError, AttributeError):  # another C library
        return False
    finally:
        os.close(descriptor)


def _sync_one(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(staging: Path, target: Path, named: Callable[[], None]) -> None:
    if os.path.lexists(target):
        raise RequestError(f"release directory appeared while the job ran: {target}", hint="name a new one with --out")
    try:
        staging.rename(target)  # fails, and does not merge, if a folder with content came in between
        named()
        _sync_one(target.parent)
    except OSError as err:
        if err.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise RequestError(f"release directory appeared while the job ran: {target}") from err
        raise host_error(err, f"cannot put the release in place: {target}") from err
