"""The release manifest: every file of a release with its digest, and what is known of how it came to be."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from signing.encoding import canonical_json, parse_canonical_json, sha256_hex

SCHEMA = "executor.manifest/v1"
MANIFEST = "manifest.json"
CHECKSUMS = "SHA256SUMS"
PROVENANCE = "provenance.sigstore.json"
BUNDLE_SUFFIX = ".sigstore.json"
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
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
        if not _PATH.fullmatch(self.path) or self.path.endswith(BUNDLE_SUFFIX) or self.path in (MANIFEST, CHECKSUMS):
            raise ValueError(f"not a path for a released file: {self.path!r}")
        if not _HEX.fullmatch(self.sha256) or self.size < 0:
            raise ValueError(f"malformed digest or size of {self.path!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A release's manifest.

    Attributes:
        run_id: The run that made it.
        files: All released files but the manifest, checksums and bundles. Never empty, sorted by path.
        details: Everything else that is recorded, as plain JSON.
    """

    run_id: str
    files: tuple[ManifestFile, ...]
    details: Mapping[str, Any]

    def __post_init__(self) -> None:
        paths = [f.path for f in self.files]
        if not paths or paths != sorted(set(paths)):
            raise ValueError("a manifest lists at least one file, each once, in order")

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of `manifest.json`."""
        files = [{name: getattr(f, name) for name in ManifestFile.__slots__} for f in self.files]
        return canonical_json({"schema": SCHEMA, "run_id": self.run_id, "files": files, "details": self.details})

    def checksums(self) -> bytes:
        """Return the bytes of `SHA256SUMS`, which `sha256sum --check` reads."""
        lines = {f.path: f.sha256 for f in self.files} | {MANIFEST: sha256_hex(self.to_bytes())}
        return "".join(f"{digest}  {path}\n" for path, digest in sorted(lines.items())).encode()

    def expected_paths(self) -> set[str]:
        """Return every path that a complete release holds."""
        paths = {f.path for f in self.files} | {MANIFEST}
        return paths | {p + BUNDLE_SUFFIX for p in paths} | {CHECKSUMS, PROVENANCE}


def parse_manifest(data: bytes) -> Manifest:
    """Parse the bytes of `manifest.json`.

    Raises:
        ValueError: Not canonical, another schema, or an entry that no manifest of ours has.
    """
    try:
        document = parse_canonical_json(data)
        if document["schema"] != SCHEMA or set(document) != {"schema", "run_id", "files", "details"}:
            raise ValueError("not a manifest of this version")
        files = tuple(ManifestFile(**item) for item in document["files"])
        return Manifest(run_id=document["run_id"], files=files, details=document["details"])
    except (KeyError, TypeError) as err:
        raise ValueError(f"malformed manifest: {err}") from err
