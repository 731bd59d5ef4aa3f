"""The stage: artifacts and documents under their names in a release without a name, hashed again as they lie there."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor.errors import HostError
from executor.release.gate import Approved
from executor.release.statements import Chain
from executor.transfer.quarantine import Artifact
from signing.bundle import MEDIA_TYPE
from signing.encoding import sha256_hex
from signing.files import create, make_folder
from signing.layout import for_each, hash_descriptor
from signing.manifest import ARTIFACTS, DECISION, FILE_MODE, FOLDER_MODE, PLAN, Manifest, ManifestFile
from signing.oms import OMS_FILE

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


def stage(approved: Approved, content: ReleaseContent, documents: Mapping[str, bytes], staging: Path) -> Manifest:
    """Lay a release out in a folder, and return its manifest.

    Args:
        approved: The gate's word.
        content: What is recorded beside the artifacts.
        documents: The content of the other files, by path.
        staging: The folder, which is there and empty.

    Raises:
        HostError: An artifact changed since it was received.
        OSError: A file could not be written.
    """
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
