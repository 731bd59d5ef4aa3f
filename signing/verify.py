"""Verify releases and single files, offline. Imports `cryptography` and the standard library alone; starts in a blink.

The order is that of trust: first who signed (signing.evidence), then what the signed statements say of each other and
of the manifest (signing.chain), then the files themselves, then what the verifier demands of a release beyond that it
is whole. Every function raises or returns evidence; none returns a bool.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from signing.bundle import Bundle, parse_bundle
from signing.chain import Facts, check_chain
from signing.encoding import sha256_hex
from signing.errors import VerificationError
from signing.evidence import BundleVerifier, Evidence, Expectations, Expected, matches, shown
from signing.layout import (
    BUNDLE_BYTES_MAX,
    check_digests,
    check_layout,
    check_modes,
    hash_file,
    list_release,
    read_small,
)
from signing.manifest import (
    ARTIFACTS,
    CHECKSUMS,
    MANIFEST,
    RECORD,
    STAGES,
    Manifest,
    ManifestFile,
    own_bundle_path,
    parse_manifest,
    stage_path,
)
from signing.statement import PREDICATE_ARTIFACT, PREDICATE_RELEASE
from signing.value import Value

if TYPE_CHECKING:
    from signing.reproduction import Quorum

# Each check has an id that stays what it is; a refusal names the one that failed.
CHECKS = {
    "LAYOUT": "regular files only, none missing, none unlisted",
    "MODE": "permission bits are those of the manifest",
    "BUNDLE": "every bundle is in the one form that this project writes",
    "CERTIFICATE": "issued by a trusted authority, for signing, valid when signed, logged at issuance",
    "IDENTITY": "signed by whom the verifier expects",
    "LOG": "entry is of this signature, included under a signed checkpoint, time-stamped by the log",
    "REVOKED": "entry is one that its log had when it was closed, where it is",
    "SIGNATURE": "signed by the certificate's or the expected key",
    "STATEMENT": "each statement is of its kind and about exactly these files",
    "CHAIN": "request, sandbox, decision, provenance, release and summary name each other, one run and one policy",
    "MANIFEST": "canonical, and names every file",
    "DIGEST": "size and sha256 of every file are those of the manifest",
    "CHECKSUMS": "SHA256SUMS says the same as the manifest",
    "BUILDER": "made by the expected builder",
    "IMAGE": "made in the expected image",
    "POLICY": "allowed by the expected policy",
    "PROFILE": "allowed under the expected profile",
    "REPRODUCED": "made again with the same outcome, by as many as are wanted",
}
NOT_CHECKED = (
    "whether the policy was a good one",
    "whether the signer's keys were stolen and nobody noticed",
)
_OF_CERTIFICATES = ("CERTIFICATE", "LOG", "REVOKED")


class Demands(Value):
    """What a verifier demands of a release beyond that it is whole and rightly signed. None asks for nothing.

    Attributes:
        builder_id: SLSA builder id: exact, or a pattern that the whole must match.
        image_sha256: Of the container image, in hex.
        policy_sha256: Of the effective policy, in hex.
        profile: Name of the policy's profile.
        reproduced: By whom it must have been made again.
        exact_modes: Whether all permission bits must be as they were, or only no file have become executable.
    """

    builder_id: Expected | None = None
    image_sha256: str | None = None
    policy_sha256: str | None = None
    profile: str | None = None
    reproduced: "Quorum | None" = None
    exact_modes: bool = True


class Verified(Value):
    """What was found to hold.

    Attributes:
        manifest: The release's manifest.
        manifest_sha256: Digest of its bytes.
        statement_sha256: Digest of the release statement's payload, by which a log knows it.
        facts: What its chain says of how it came to be.
        signer: Identity and issuer, or a key's hint.
        signed_at: When its release statement was logged; None where a bare key signed.
        made: Ids of the checks that were made and passed.
        not_made: Ids of the others, with the reason.
        reproductions: Who made it again with the same outcome; empty where nobody was asked for.
    """

    manifest: Manifest
    manifest_sha256: str
    statement_sha256: str
    facts: Facts
    signer: tuple[str, str]
    signed_at: datetime | None
    made: tuple[str, ...]
    not_made: Mapping[str, str]
    reproductions: tuple[str, ...]


NO_DEMANDS = Demands()


def verify_release(
    folder: Path, expect: Expectations, demands: Demands = NO_DEMANDS, *, hashed: Collection[str] = ()
) -> Verified:
    """Verify a whole release directory.

    Args:
        folder: The release.
        expect: Who must have signed.
        demands: What it must be, beyond whole.
        hashed: Paths of files that the caller made, and has just hashed and found as it listed them: not read again.

    Raises:
        VerificationError: Some check does not hold; it names the check and the file.
    """
    with depth_bounded():
        return _verify_release(folder, expect, demands, hashed)


@contextmanager
def depth_bounded() -> Iterator[None]:
    """Refuse what is nested so deep that Python cannot compare or write it again.

    Raises:
        VerificationError: It is.
    """
    try:
        yield
    except RecursionError as err:
        raise VerificationError("something is nested too deep", check="BUNDLE") from err


def _verify_release(folder: Path, expect: Expectations, demands: Demands, hashed: Collection[str]) -> Verified:
    found = list_release(folder)
    if MANIFEST not in found.files:
        hint = "a run's folder in the log is verified with --record" if RECORD in found.files else ""
        raise VerificationError(f"file is missing: {MANIFEST}", check="LAYOUT", file=MANIFEST, hint=hint)
    raw = read_small(folder, MANIFEST)
    manifest_sha256 = sha256_hex(raw)
    verifier = BundleVerifier(expect)
    release = _check_release_statement(folder, verifier, manifest_sha256)  # before anything in it is believed
    manifest = _parse_manifest(raw)
    check_layout(found, manifest)
    check_modes(found, exact=demands.exact_modes)
    others = (stage for stage in STAGES if stage != "release")
    evidence = {stage: _verify_file(folder, verifier, stage_path(stage)) for stage in others} | {"release": release}
    facts = check_chain(evidence, manifest, manifest_sha256)
    _check_own_bundles(folder, verifier, manifest, manifest_sha256, release.signer)
    if read_small(folder, CHECKSUMS) != manifest.checksums():
        raise VerificationError(f"{CHECKSUMS} differs from the manifest", check="CHECKSUMS", file=CHECKSUMS)
    check_digests(folder, tuple(item for item in manifest.files if item.path not in hashed))
    _check_demands(facts, demands)
    reproduced: tuple[str, ...] = ()
    if demands.reproduced is not None:
        from signing.reproduction import check_reproduced

        reproduced = check_reproduced(
            folder,
            manifest,
            manifest_sha256=manifest_sha256,
            statement_sha256=release.payload_sha256,
            quorum=demands.reproduced,
        )
    not_made = _not_made(demands, by_key=release.signed_at is None, unknown_closed=verifier.unknown_closed)
    return Verified(
        manifest=manifest,
        manifest_sha256=manifest_sha256,
        statement_sha256=release.payload_sha256,
        facts=facts,
        signer=release.signer,
        signed_at=release.signed_at,
        made=tuple(name for name in CHECKS if name not in not_made),
        not_made=not_made,
        reproductions=reproduced,
    )


def verify_artifact(
    file: Path, bundle: Path, expect: Expectations, *, name: str | None = None
) -> tuple[Evidence, tuple[str, ...]]:
    """Verify one file by a bundle that is about it: its own, or the release's.

    What the bundle says is believed of this file alone; whether the rest of its release is whole is not looked at.

    Args:
        file: The file.
        bundle: The bundle.
        expect: Who must have signed.
        name: The path in its release that it must have been released under; None for any under `artifacts/`.

    Returns:
        What the bundle proves, and the paths under which the file was released.

    Raises:
        VerificationError: Some check does not hold.
    """
    with depth_bounded():
        evidence = _verify_file(bundle.parent, BundleVerifier(expect), bundle.name)
    statement = evidence.statement
    if statement.predicate_type not in (PREDICATE_ARTIFACT, PREDICATE_RELEASE):
        raise VerificationError(f"statement is not about an artifact: {bundle}", check="STATEMENT", file=bundle.name)
    digest = hash_file(file.parent, file.name, size=None)
    released = tuple(n for n, d in statement.subjects.items() if d == digest and n.startswith(f"{ARTIFACTS}/"))
    if not released or (name is not None and name not in released):
        others = [n for n, d in statement.subjects.items() if d == digest]
        why = f"was released as {', '.join(others)}" if others else "holds other bytes than the statement is about"
        wanted = name or "an artifact"
        raise VerificationError(f"file is not {wanted}: {file} {why}", check="STATEMENT", file=file.name)
    return evidence, released if name is None else (name,)


def _check_release_statement(folder: Path, verifier: BundleVerifier, manifest_sha256: str) -> Evidence:
    """Check who signed the manifest. Of which kind each statement is, `check_chain` says."""
    name = stage_path("release")
    evidence = _verify_file(folder, verifier, name)
    statement = evidence.statement
    if statement.subjects.get(MANIFEST) != manifest_sha256:
        raise VerificationError(f"statement is about another {MANIFEST}: {name}", check="STATEMENT", file=MANIFEST)
    return evidence


def _check_own_bundles(
    folder: Path, verifier: BundleVerifier, manifest: Manifest, manifest_sha256: str, signer: tuple[str, str]
) -> None:
    for item in manifest.artifacts if manifest.own_bundles else ():
        name = own_bundle_path(item.path)
        evidence = _verify_file(folder, verifier, name)
        statement = evidence.statement
        claim = artifact_claim(item, run_id=manifest.run_id, manifest_sha256=manifest_sha256)
        if statement.predicate_type != PREDICATE_ARTIFACT or dict(statement.subjects) != {item.path: item.sha256}:
            raise VerificationError(f"statement is not about {item.path}: {name}", check="STATEMENT", file=name)
        if dict(statement.predicate) != claim or evidence.signer != signer:
            raise VerificationError(f"bundle belongs to another release: {name}", check="STATEMENT", file=name)


def artifact_claim(item: ManifestFile, *, run_id: str, manifest_sha256: str) -> dict[str, object]:
    """Return the predicate of an artifact's own statement, which binds it to its release."""
    return {"run_id": run_id, "role": item.role, "size": item.size, "manifest_sha256": manifest_sha256}


def _check_demands(facts: Facts, demands: Demands) -> None:
    if demands.builder_id is not None and not matches(demands.builder_id, facts.builder_id):
        why = f"made by builder {facts.builder_id}, not {shown(demands.builder_id)}"
        raise VerificationError(why, check="BUILDER", file=stage_path("provenance"))
    for check, what, wanted, is_ in (
        ("IMAGE", "made in image", demands.image_sha256, facts.image_sha256),
        ("POLICY", "allowed by policy", demands.policy_sha256, facts.policy_sha256),
        ("PROFILE", "allowed under profile", demands.profile, facts.profile),
    ):
        if wanted is not None and wanted != is_:
            raise VerificationError(f"{what} {is_}, not {wanted}", check=check, file=stage_path("provenance"))


def _not_made(demands: Demands, *, by_key: bool, unknown_closed: bool) -> dict[str, str]:
    asked = {
        "BUILDER": demands.builder_id,
        "IMAGE": demands.image_sha256,
        "POLICY": demands.policy_sha256,
        "PROFILE": demands.profile,
        "REPRODUCED": demands.reproduced,
    }
    skipped = {name: "not asked for" for name, wanted in asked.items() if wanted is None}
    if by_key:
        skipped |= dict.fromkeys(_OF_CERTIFICATES, "signed by a bare key, whose time nobody vouches for")
    if unknown_closed:
        skipped["REVOKED"] = "the trust root does not say what closed logs held: use what `executor trust export` wrote"
    if not demands.exact_modes:
        skipped["MODE"] = "only that no file is executable"
    return skipped


def _verify_file(folder: Path, verifier: BundleVerifier, name: str) -> Evidence:
    return verifier.verify(read_bundle(folder, name), file=name)


def read_bundle(folder: Path, name: str) -> Bundle:
    """Read a bundle file.

    Raises:
        VerificationError: It cannot be read, or is in another form.
    """
    try:
        return parse_bundle(read_small(folder, name, bytes_max=BUNDLE_BYTES_MAX))
    except ValueError as err:
        raise VerificationError(f"{err}: {name}", check="BUNDLE", file=name) from err


def _parse_manifest(raw: bytes) -> Manifest:
    try:
        return parse_manifest(raw)
    except ValueError as err:
        raise VerificationError(f"manifest is malformed: {err}", check="MANIFEST", file=MANIFEST) from err
