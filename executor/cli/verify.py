"""`executor verify RELEASE`: verify a release, a file or a record, offline. Needs no engine, no network, no torch.

Whom to expect is said by options, by a policy file, or by nothing: then it is whoever signs on this host.
"""

import argparse
import functools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from executor.cli.arguments import Once, named_path
from executor.cli.expectations import add_demand_arguments, add_signer_arguments, policy_of
from executor.errors import RequestError
from executor.text import printable
from signing.evidence import Evidence
from signing.expect import VerificationPolicy, under_one_of, verify_by_policy
from signing.manifest import ARTIFACTS, ATTESTATIONS, BUNDLE_SUFFIX, MANIFEST, RECORD, own_bundle_path
from signing.verify import CHECKS, NO_DEMANDS, NOT_CHECKED, Verified, verify_artifact

if TYPE_CHECKING:
    from signing.record import VerifiedRecord

SCHEMA = "executor.verification/v1"
_NO_TIME = "at a time that nobody vouches for"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to verify and what to insist on."""
    parser.add_argument("release", type=named_path, nargs="?", help="a release directory")
    add = functools.partial(parser.add_argument, action=Once)
    add("--artifact", type=named_path, metavar="FILE", help="one file alone, in place of a release")
    add("--bundle", type=named_path, metavar="FILE", help="its bundle; default: FILE.sigstore.json, or its release's")
    add("--name", metavar="PATH", help="what the file must be in its release, such as artifacts/model.onnx")
    add(
        "--record",
        type=named_path,
        metavar="DIR",
        help="a run's folder in the log: denials and failures are signed too",
    )
    add_signer_arguments(parser)
    add_demand_arguments(parser)


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Verify, and list what was checked and what was not."""
    named = [x for x in (args.release, args.artifact, args.record) if x is not None]
    if len(named) != 1:
        raise RequestError("name one thing to verify: a release, --artifact FILE or --record DIR")
    if args.artifact is None and (args.bundle is not None or args.name is not None):
        raise RequestError("--bundle and --name go with --artifact")
    if args.name == "":
        raise RequestError("--name is empty; is a variable unset?")
    for path in (*named, args.bundle):
        if path is not None and not os.path.lexists(path):
            raise RequestError(f"there is nothing to verify at {path}")
    policy = policy_of(args)
    if args.release is None and policy.demands != NO_DEMANDS:  # which would otherwise go unheeded
        raise RequestError(
            "what is demanded is demanded of a release: its builder, image, policy, reproductions or modes",
            hint="verify the whole release, or say only who must have signed",
        )
    if args.release is not None:
        verified = verify_by_policy(args.release, policy)
        _print(out, args, _release_wire(args.release, verified), _release_lines(args.release, verified))
    elif args.artifact is not None:
        _verify_artifact(args, policy, out)
    else:
        _verify_record(args, policy, out)
    return 0


def _verify_artifact(args: argparse.Namespace, policy: VerificationPolicy, out: TextIO) -> None:
    bundle, name = _bundle_of(args.artifact, args.bundle)
    name = args.name or name
    evidence, names = under_one_of(policy.signers, lambda s: verify_artifact(args.artifact, bundle, s, name=name))
    wire = _artifact_wire(args.artifact, bundle, evidence, names)
    _print(out, args, wire, [_signer_line(wire), f"verified: {args.artifact} (is {', '.join(names)}, {_signed(wire)})"])


def _verify_record(args: argparse.Namespace, policy: VerificationPolicy, out: TextIO) -> None:
    from signing.record import verify_record  # most verify releases

    folder = args.record.parent if args.record.name == RECORD else args.record
    record = under_one_of(policy.signers, lambda signer: verify_record(folder, signer))
    wire = _record_wire(folder, record)
    said = f"verified: {folder} ({record.status}: {' -> '.join(record.stages)} -> record, {_signed(wire)})"
    _print(out, args, wire, [_signer_line(wire), said])


def _bundle_of(artifact: Path, named: Path | None) -> tuple[Path, str | None]:
    """Return an artifact's bundle, and which file of its release it must be, where its place says so.

    Without a name the bundle is the one beside it, or that of the release that it lies in.
    """
    if not artifact.name:
        raise RequestError(f"not a file: {artifact}")
    beside, bundle, name = artifact.with_name(artifact.name + BUNDLE_SUFFIX), named, None
    path = artifact.parent.resolve() / artifact.name
    for folder in path.parents:
        if folder.name == ARTIFACTS and (folder.parent / ATTESTATIONS).is_dir():
            name = path.relative_to(folder.parent).as_posix()
            inside = folder.parent / own_bundle_path(name)
            bundle = bundle or (inside if inside.exists() else None)
    bundle = bundle or (beside if beside.exists() else None)
    if bundle is None:
        raise RequestError(f"no bundle of its own is found for {artifact}", hint="name it with --bundle")
    return bundle, name


def _print(out: TextIO, args: argparse.Namespace, wire: dict[str, Any], lines: list[str]) -> None:
    out.write((json.dumps(wire, indent=2) if args.json else "\n".join(map(printable, lines))) + "\n")


def _release_lines(folder: Path, verified: Verified) -> list[str]:
    lines = [f"ok    {name:<12} {CHECKS[name]}" for name in verified.made]
    lines += [f"      {name:<12} not checked: {why}" for name, why in verified.not_made.items()]
    lines += [f"      not checked: {text}" for text in NOT_CHECKED]
    signed = f"{verified.signed_at:%Y-%m-%d %H:%M:%S} UTC" if verified.signed_at else _NO_TIME
    lines.append(_signer_line(_verified_wire(verified.signed_at, verified.signer)))
    return [*lines, f"verified: {folder} ({len(verified.manifest.files)} files, signed {signed})"]


def _release_wire(folder: Path, verified: Verified) -> dict[str, Any]:
    facts = verified.facts
    return _verified_wire(verified.signed_at, verified.signer) | {
        "release": str(folder),
        "run_id": verified.manifest.run_id,
        "manifest_sha256": verified.manifest_sha256,
        "statement_sha256": verified.statement_sha256,
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


def _artifact_wire(file: Path, bundle: Path, evidence: Evidence, names: tuple[str, ...]) -> dict[str, Any]:
    statement = evidence.statement
    manifest = statement.subjects.get(MANIFEST) or statement.predicate.get("manifest_sha256")
    return _verified_wire(evidence.signed_at, evidence.signer) | {
        "artifact": str(file),
        "bundle": str(bundle),
        "names": list(names),
        "statement_sha256": evidence.payload_sha256,
        "run_id": statement.predicate.get("run_id"),
        "manifest_sha256": manifest,
    }


def _record_wire(folder: Path, record: "VerifiedRecord") -> dict[str, Any]:
    return _verified_wire(record.signed_at, record.signer) | {
        "record": str(folder),
        "run_id": record.run_id,
        "run_status": record.status,
        "statements": list(record.stages),
    }


def _verified_wire(signed_at: Any, signer: tuple[str, str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "status": "verified",
        "exit_code": 0,
        "signed_at": signed_at.isoformat() if signed_at else None,
        "signer": signer[0],
        "issuer": signer[1],
    }


def _signer_line(wire: dict[str, Any]) -> str:
    return f"signer: {wire['signer']}" + (f" by {wire['issuer']}" if wire["issuer"] else "")


def _signed(wire: dict[str, Any]) -> str:
    return f"signed {wire['signed_at'] or _NO_TIME}"
