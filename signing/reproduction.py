"""Reproductions: statements, beside a release, of those who ran its plan again and compared what came out.

They are not part of the release, which never changes: they lie in `RELEASE.reproductions/`, and may be added at any
time by anybody. One counts only where somebody whom the verifier named has signed it; several by one signer count once.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signing.bundle import parse_bundle
from signing.chain import parents_in
from signing.errors import VerificationError
from signing.evidence import BundleVerifier, Evidence, Expectations
from signing.layout import BUNDLE_BYTES_MAX, read_small
from signing.manifest import BUNDLE_SUFFIX, Manifest
from signing.statement import GOOD_RESULTS, PREDICATE_REPRODUCTION
from signing.value import Value

_FILES_MAX = 1000


class Quorum(Value):
    """How many of whom must have reproduced a release.

    Attributes:
        threshold: How many different signers; at least one.
        among: Those who count.
        accept: Which results count, out of `GOOD_RESULTS`.
        atol: The absolute tolerance that a result within tolerance may have had; None for any.
        rtol: The relative one.
    """

    threshold: int
    among: tuple[Expectations, ...]
    accept: tuple[str, ...] = ("identical",)
    atol: float | None = None
    rtol: float | None = None

    def __post_init__(self) -> None:
        if self.threshold < 1 or not self.among or not set(self.accept) <= set(GOOD_RESULTS):
            raise ValueError("a quorum wants at least one of somebody, for results that are good")
        most = sum(_most_signers(expect) for expect in self.among)
        if self.threshold > most:
            raise ValueError(f"{self.threshold} reproductions are wanted, and of those named at most {most} can count")


def _most_signers(expect: Expectations) -> float:
    """Return how many different signers an expectation can be met by."""
    return len(expect.keys) or (1 if isinstance(expect.subject, str) else math.inf)


def reproductions_folder(release: Path) -> Path:
    """Return where reproductions of a release are looked for."""
    return release.with_name(f"{release.name}.reproductions")


def check_reproduced(
    release: Path, manifest: Manifest, *, manifest_sha256: str, statement_sha256: str, quorum: Quorum
) -> tuple[str, ...]:
    """Check that enough of those who count have reproduced a release.

    Args:
        release: Where it lies.
        manifest: Its manifest.
        manifest_sha256: Digest of the manifest's bytes.
        statement_sha256: Digest of the payload of its release statement, which a reproduction names.
        quorum: How many of whom.

    Returns:
        The signers whose reproductions count.

    Raises:
        VerificationError: Not enough have, or somebody who counts says that it came out different.
    """
    folder = reproductions_folder(release.absolute())
    subjects = {f.path: f.sha256 for f in manifest.artifacts}
    good: set[str] = set()
    for name in _bundle_names(folder):
        evidence = _evidence(folder, name, quorum)
        if evidence is None or not _is_about(evidence, subjects, manifest_sha256, statement_sha256):
            continue
        result = evidence.statement.predicate.get("result")
        if result == "different":
            why = f"made again by {evidence.signer[0]}, it came out different: {name}"
            raise VerificationError(why, check="REPRODUCED", file=name)
        if result in quorum.accept and (result == GOOD_RESULTS[0] or _is_near(evidence.statement.predicate, quorum)):
            good.add(evidence.signer[0])
    if len(good) < quorum.threshold:
        raise VerificationError(
            f"reproduced by {len(good)} of those who count, {quorum.threshold} are wanted",
            check="REPRODUCED",
            hint=f"`executor reproduce` adds to {folder.name}",
        )
    return tuple(sorted(good))


def _is_near(predicate: Mapping[str, Any], quorum: Quorum) -> bool:
    """Whether a tolerance, which whoever reproduces may choose, is one that the verifier means."""
    said = predicate.get("tolerance")
    for name, most in (("atol", quorum.atol), ("rtol", quorum.rtol)):
        value = said.get(name) if isinstance(said, dict) else None
        if most is not None and (not isinstance(value, int | float) or not 0 <= value <= most):
            return False
    return True


def _bundle_names(folder: Path) -> list[str]:
    try:
        names = sorted(p.name for p in folder.iterdir() if p.name.endswith(BUNDLE_SUFFIX))
    except OSError:
        return []
    if len(names) > _FILES_MAX:
        raise VerificationError(f"more than {_FILES_MAX} reproductions: {folder}", check="REPRODUCED")
    return names


def _evidence(folder: Path, name: str, quorum: Quorum) -> Evidence | None:
    """Return what a bundle proves by one of those who count, or None: anybody can put a file there."""
    try:
        bundle = parse_bundle(read_small(folder, name, bytes_max=BUNDLE_BYTES_MAX))
    except (ValueError, VerificationError, RecursionError):
        return None
    for expect in quorum.among:
        try:
            return BundleVerifier(expect).verify(bundle, file=name)
        except (VerificationError, RecursionError):
            continue
    return None


def _is_about(evidence: Evidence, subjects: Mapping[str, str], manifest_sha256: str, statement_sha256: str) -> bool:
    statement = evidence.statement
    if statement.predicate_type != PREDICATE_REPRODUCTION or dict(statement.subjects) != subjects:
        return False
    try:
        named = parents_in("reproduction", statement.predicate)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return False
    same = statement.predicate.get("manifest_sha256") == manifest_sha256
    return same and named == {"release": statement_sha256}
