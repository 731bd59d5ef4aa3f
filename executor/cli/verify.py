"""`executor verify RELEASE`: verify a release offline. Needs no engine, no network, no torch."""

import argparse
import json
from pathlib import Path
from typing import Any, TextIO

from executor.errors import RequestError
from executor.home import open_home
from signing.domain import DOMAIN_FILE, TRUSTED_ROOT, identity_of
from signing.errors import VerificationError
from signing.trust import load_trust_root
from signing.verify import CHECKS, NOT_CHECKED, Expectations, Verified, verify_release


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the release and what to insist on."""
    parser.add_argument("release", type=Path)
    parser.add_argument("--trust-root", type=Path, metavar="FILE", help="trusted_root.json; default: this host's own")
    parser.add_argument(
        "--identity", metavar="URI", help="exact subject that must have signed; default: this host's own"
    )
    parser.add_argument("--issuer", metavar="URI", help="exact issuer of that identity; default: this host's own")


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Verify, and list what was checked and what was not."""
    verified = verify_release(args.release, _expectations(args))
    if args.json:
        out.write(json.dumps(_wire(args.release, verified), indent=2) + "\n")
        return 0
    lines = [f"ok    {name:<12} {text}" for name, text in CHECKS]
    lines += [f"      not checked: {text}" for text in NOT_CHECKED]
    count, signed_at = len(verified.manifest.files), f"{verified.signed_at:%Y-%m-%d %H:%M:%S} UTC"
    lines.append(f"verified: {args.release} ({count} files, signed {signed_at})")
    out.write("\n".join(lines) + "\n")
    return 0


def _expectations(args: argparse.Namespace) -> Expectations:
    named = (args.trust_root, args.identity, args.issuer)
    if all(value is None for value in named):
        return _own_expectations()
    if any(value is None for value in named):
        raise RequestError("--trust-root, --identity and --issuer go together", hint="name all three, or none")
    for option, value in (("--identity", args.identity), ("--issuer", args.issuer)):
        if not value or not value.isascii():  # an unset variable must not mean "anybody", nor "this host"
            raise RequestError(f"{option} is not a URI: {value!r}", hint="is a variable unset?")
    return Expectations(trust=load_trust_root(args.trust_root), subject=args.identity, issuer=args.issuer)


def _own_expectations() -> Expectations:
    """Expect what this host's own trust domain signs."""
    folder = open_home().root / "trust"  # not made by looking for it
    try:
        domain_id = json.loads((folder / DOMAIN_FILE).read_bytes())["id"]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise VerificationError(
            f"this host has no trust domain of its own at {folder}",
            check="TRUST-ROOT",
            hint="name whose word counts: --trust-root, --identity and --issuer",
        ) from err
    identity = identity_of(domain_id)
    return Expectations(trust=load_trust_root(folder / TRUSTED_ROOT), subject=identity.subject, issuer=identity.issuer)


def _wire(folder: Path, verified: Verified) -> dict[str, Any]:
    return {
        "schema": "executor.verification/v1",
        "status": "verified",
        "exit_code": 0,
        "release": str(folder),
        "run_id": verified.manifest.run_id,
        "manifest_sha256": verified.manifest_sha256,
        "signed_at": verified.signed_at.isoformat(),
        "files": [f.path for f in verified.manifest.files],
        "checked": [name for name, _ in CHECKS],
        "not_checked": list(NOT_CHECKED),
    }
