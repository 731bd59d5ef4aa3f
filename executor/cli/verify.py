"""`executor verify RELEASE`: verify a release, a file or a record, offline. Needs no engine, no network, no torch.

Whom to expect is said by options, by a policy file, or by nothing: then it is whoever signs on this host.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from executor.cli.expectations import add_demand_arguments, add_signer_arguments, policy_of
from executor.errors import RequestError
from signing.evidence import Evidence
from signing.expect import under_one_of, verify_by_policy
from signing.manifest import ARTIFACTS, BUNDLE_SUFFIX, own_bundle_path
from signing.verify import CHECKS, NO_DEMANDS, NOT_CHECKED, Verified, verify_artifact

if TYPE_CHECKING:
    from signing.record import VerifiedRecord

SCHEMA = "executor.verification/v1"
_NO_TIME = "at a time that nobody vouches for"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to verify and what to insist on."""
    add = parser.add_argument
    add("release", type=Path, nargs="?", help="a release directory")
    add("--artifact", type=Path, metavar="FILE", help="one file alone, in place of a release")
    add("--bundle", type=Path, metavar="FILE", help="its bundle; default: FILE.sigstore.json, or its release's")
    add("--record", type=Path, metavar="DIR", help="a run's folder in the log: denials and failures are signed as well")
    add_signer_arguments(parser)
    add_demand_arguments(parser)


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Verify, and list what was checked and what was not."""
    if sum(x is not None for x in (args.release, args.artifact, args.record)) != 1:
        raise RequestError("name one thing to verify: a release, --artifact FILE or --record DIR")
    if args.bundle is not None and args.artifact is None:
        raise RequestError("--bundle goes with --artifact")
    policy = policy_of(args)
    if args.release is None and policy.demands != NO_DEMANDS:  # which would otherwise go unheeded
        raise RequestError(
            "what is demanded is demanded of a release: its builder, image, policy, reproductions or modes",
            hint="verify the whole release, or say only who must have signed",
        )
    if args.release is not None:
        verified = verify_by_policy(args.release, policy)
        _print(out, args, _release_wire(args.release, verified), _release_lines(args.release, verified))
        return 0
    if args.artifact is not None:
        bundle = args.bundle or _bundle_of(args.artifact)
        evidence = under_one_of(policy.signers, lambda signer: verify_artifact(args.artifact, bundle, signer))
        wire = _artifact_wire(args.artifact, bundle, evidence)
        _print(out, args, wire, [f"verified: {args.artifact} ({_signed(wire)})"])
        return 0
    from signing.record import verify_record  # most verify releases

    record = under_one_of(policy.signers, lambda signer: verify_record(args.record, signer))
    wire = _record_wire(args.record, record)
    said = f"verified: {args.record} ({record.status}: {' -> '.join(record.stages)} -> record, {_signed(wire)})"
    _print(out, args, wire, [said])
    return 0


def _bundle_of(artifact: Path) -> Path:
    """Return where an artifact's bundle lies: beside it, or in the release that it lies in."""
    beside = artifact.with_name(artifact.name + BUNDLE_SUFFIX)
    if beside.exists():
        return beside
    path = artifact.absolute()
    for folder in path.parents:
        if folder.name == ARTIFACTS:
            inside = folder.parent / own_bundle_path(path.relative_to(folder.parent).as_posix())
            if inside.exists():
                return inside
    raise RequestError(f"no bundle of its own is found for {artifact}", hint="name it with --bundle")


def _print(out: TextIO, args: argparse.Namespace, wire: dict[str, Any], lines: list[str]) -> None:
    out.write((json.dumps(wire, indent=2) if args.json else "\n".join(lines)) + "\n")


def _release_lines(folder: Path, verified: Verified) -> list[str]:
    lines = [f"ok    {name:<12} {CHECKS[name]}" for name in verified.made]
    lines += [f"      {name:<12} not checked: {why}" for name, why in verified.not_made.items()]
    lines += [f"      not checked: {text}" for text in NOT_CHECKED]
    signed = f"{verified.signed_at:%Y-%m-%d %H:%M:%S} UTC" if verified.signed_at else _NO_TIME
    return [*lines, f"verified: {folder} ({len(verified.manifest.files)} files, signed {signed})"]


def _release_wire(folder: Path, verified: Verified) -> dict[str, Any]:
    facts = verified.facts
    return _verified_wire(verified.signed_at, verified.signer) | {
        "release": str(folder),
        "run_id": verified.manifest.run_id,
        "manifest_sha256": verified.manifest_sha256,
        "builder": facts.builder_id,
        "image_sha256": facts.image_sha256,
        "policy_sha256": facts.policy_sha256,
        "profile": facts.profile,
        "plan_sha256": facts.plan_sha256,
        "files": [f.path for f in verified.manifest.files],
        "reproduced_by": list(verified.reproductions),
        "checked": list(verified.made),
        "not_checked": [*(f"{name}: {why}" for name, why in verified.not_made.items()), *NOT_CHECKED],
    }


def _artifact_wire(file: Path, bundle: Path, evidence: Evidence) -> dict[str, Any]:
    statement = evidence.statement
    return _verified_wire(evidence.signed_at, evidence.signer) | {
        "artifact": str(file),
        "bundle": str(bundle),
        "run_id": statement.predicate.get("run_id"),
        "manifest_sha256": statement.predicate.get("manifest_sha256"),
    }


def _record_wire(folder: Path, record: "VerifiedRecord") -> dict[str, Any]:
    return _verified_wire(record.signed_at, None) | {
        "record": str(folder),
        "run_id": record.run_id,
        "run_status": record.status,
        "statements": list(record.stages),
    }


def _verified_wire(signed_at: Any, signer: tuple[str, str] | None) -> dict[str, Any]:
    wire = {
        "schema": SCHEMA,
        "status": "verified",
        "exit_code": 0,
        "signed_at": signed_at.isoformat() if signed_at else None,
    }
    return wire | ({"signer": signer[0], "issuer": signer[1]} if signer else {})


def _signed(wire: dict[str, Any]) -> str:
    return f"signed {wire['signed_at'] or _NO_TIME}"
