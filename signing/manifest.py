"""The release manifest: every file of a release by digest, size, type and mode, and how it came to be.

A release holds what its manifest lists, the statements about it, and nothing else. Where each lies is said here.
"""

import re
from collections.abc import Mapping
from typing import Any

from signing.encoding import canonical_json, parse_json, sha256_hex
from signing.value import Value, kept

SCHEMA = "executor.manifest/v2"
MANIFEST = "manifest.json"
CHECKSUMS = "SHA256SUMS"
BUNDLE_SUFFIX = ".sigstore.json"
ATTESTATIONS = "attestations"
ARTIFACTS = "artifacts"
PLAN = "plan.json"
DECISION = "decision.json"
RECORD = "record.json"  # of a run's folder in the log, which is no release
FILE_MODE = 0o644
FOLDER_MODE = 0o755
_MODE = f"{FILE_MODE:04o}"
# So many artifacts have a bundle of their own each; more would cost more to sign than to hash, and the release's own
# statement names each of them as well.
OWN_BUNDLES_MAX = 64
# The statements of a release, in the order in which each names those before it.
STAGES = ("request", "sandbox", "decision", "provenance", "release", "summary")
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_HEX = re.compile(r"[0-9a-f]{64}")


class ManifestFile(Value):
    """One released file.

    Attributes:
        path: Relative path in the release.
        size: In bytes.
        sha256: In hex.
        media_type: IANA or vendor media type.
        role: What it is for.
    """

    path: str
    size: int
    sha256: str
    media_type: str
    role: str

    def __post_init__(self) -> None:
        taken = self.path in (MANIFEST, CHECKSUMS) or self.path.startswith(f"{ATTESTATIONS}/")
        if not _PATH.fullmatch(self.path) or self.path.endswith(BUNDLE_SUFFIX) or taken:
            raise ValueError(f"not a path for a released file: {self.path!r}")
        if not _HEX.fullmatch(self.sha256) or type(self.size) is not int or self.size < 0:
            raise ValueError(f"malformed digest or size of {self.path!r}")
        if not isinstance(self.media_type, str) or not isinstance(self.role, str):
            raise ValueError(f"malformed media type or role of {self.path!r}")


class Manifest(Value):
    """A release's manifest.

    Attributes:
        run_id: The run that made it.
        files: All released files but the manifest, checksums and bundles. Never empty, sorted by path.
        details: Everything else that is recorded, as plain JSON.
    """

    _hidden = ("_bytes",)
    run_id: str
    files: tuple[ManifestFile, ...]
    details: Mapping[str, Any]

    def __post_init__(self) -> None:
        paths = [f.path for f in self.files]
        if not paths or paths != sorted(set(paths)):
            raise ValueError("a manifest lists at least one file, each once, in order")

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of `manifest.json`."""
        return kept(self, "_bytes", self._make_bytes)

    def _make_bytes(self) -> bytes:
        files = [
            {
                "type": "file",
                "mode": _MODE,
                "path": f.path,
                "size": f.size,
                "sha256": f.sha256,
                "media_type": f.media_type,
                "role": f.role,
            }
            for f in self.files
        ]
        return canonical_json({"schema": SCHEMA, "run_id": self.run_id, "files": files, "details": self.details})

    def checksums(self) -> bytes:
        """Return the bytes of `SHA256SUMS`, which `sha256sum --check` reads."""
        lines = {f.path: f.sha256 for f in self.files} | {MANIFEST: sha256_hex(self.to_bytes())}
        return "".join(f"{digest}  {path}\n" for path, digest in sorted(lines.items())).encode()

    @property
    def artifacts(self) -> tuple[ManifestFile, ...]:
        """What the job made, as opposed to what was written about it."""
        return tuple(f for f in self.files if f.path.startswith(f"{ARTIFACTS}/"))

    @property
    def own_bundles(self) -> dict[str, str]:
        """Paths of the bundles of single artifacts, by the artifact's path."""
        artifacts = self.artifacts
        return {f.path: own_bundle_path(f.path) for f in artifacts} if len(artifacts) <= OWN_BUNDLES_MAX else {}

    def expected_paths(self) -> set[str]:
        """Return every path that a complete release holds."""
        paths = {f.path for f in self.files} | {MANIFEST, CHECKSUMS}
        return paths | {stage_path(stage) for stage in STAGES} | set(self.own_bundles.values())


def stage_path(stage: str) -> str:
    """Return where the bundle of a stage's statement lies in a release."""
    return f"{ATTESTATIONS}/{stage}{BUNDLE_SUFFIX}"


def own_bundle_path(artifact: str) -> str:
    """Return where an artifact's own bundle lies in a release, by the artifact's path."""
    return f"{ATTESTATIONS}/{artifact}{BUNDLE_SUFFIX}"


def parse_manifest(data: bytes) -> Manifest:
    """Parse the bytes of `manifest.json`.

    Raises:
        ValueError: Not canonical, another schema, or an entry that no manifest of ours has.
    """
    try:
        document = parse_json(data)
        if document["schema"] != SCHEMA or set(document) != {"schema", "run_id", "files", "details"}:
            raise ValueError("not a manifest of this version")
        files = []
        for item in document["files"]:
            if (item.pop("type"), item.pop("mode")) != ("file", _MODE):
                raise ValueError("a release holds regular files of one mode only")
            files.append(ManifestFile(**item))
        manifest = Manifest(run_id=document["run_id"], files=tuple(files), details=document["details"])
    except (KeyError, TypeError, AttributeError) as err:
        raise ValueError(f"malformed manifest: {err}") from err
    if manifest.to_bytes() != data:
        raise ValueError("manifest is not in canonical form")
    return manifest
