"""Whom and what a verifier expects, by options of the command line or by a policy file."""

import argparse
import functools
import re
from typing import TYPE_CHECKING, Any

from executor.cli.arguments import Once, named_path
from executor.errors import RequestError
from signing.evidence import Expectations
from signing.expect import (
    MODE_CHECKS,
    ExpectationError,
    VerificationPolicy,
    expected,
    expected_digest,
    expected_signer,
    load_verification_policy,
)
from signing.pem import expect_keys
from signing.statement import GOOD_RESULTS
from signing.verify import NO_DEMANDS, Demands

if TYPE_CHECKING:
    from signing.reproduction import Quorum

_COUNT = re.compile("[1-9][0-9]{0,3}")
_WHO = ("trust_root", "identity", "identity_pattern", "issuer", "issuer_pattern", "key")
_WHAT = ("builder", "builder_pattern", "image", "policy_digest", "profile", "require", "accept", "modes")


def add_signer_arguments(parser: argparse.ArgumentParser) -> None:
    """Add who must have signed."""
    add = functools.partial(parser.add_argument, action=Once)
    add(
        "--policy",
        type=named_path,
        metavar="FILE",
        help="all expectations in one TOML file, in place of these options",
    )
    add(
        "--trust-root",
        type=named_path,
        metavar="FILE",
        help="what `executor trust export` wrote, or a trusted_root",
    )
    add("--identity", metavar="URI", help="exact subject that must have signed; default: the trust document's")
    add("--identity-pattern", metavar="REGEX", help="pattern that the whole subject must match")
    add("--issuer", metavar="URI", help="exact issuer of that identity; default: the trust document's")
    add("--issuer-pattern", metavar="REGEX", help="pattern that the whole issuer must match")
    add(
        "--key",
        type=named_path,
        action="append",
        metavar="FILE",
        help="accept this P-256 public key, and no certificate",
    )


def add_demand_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a release must be, beyond whole."""
    add = functools.partial(parser.add_argument, action=Once)
    add("--builder", metavar="URI", help="exact SLSA builder id")
    add("--builder-pattern", metavar="REGEX", help="pattern that the whole builder id must match")
    add("--image", metavar="SHA256", help="digest of the container image")
    add("--policy-digest", metavar="SHA256", help="digest of the effective policy")
    add("--profile", metavar="NAME", help="the policy's profile")
    add("--require", metavar="reproduced[=N]", help="made again with the same outcome, by N different signers")
    add("--accept", choices=GOOD_RESULTS, help="what counts as the same; default: identical")
    add("--modes", choices=MODE_CHECKS, help="all permission bits, or only that no file became executable")


def policy_of(args: argparse.Namespace) -> VerificationPolicy:
    """Return what the options insist on; where they name nobody, whoever signs on this host.

    Raises:
        RequestError: They do not go together, or make no sense.
        VerificationError: A trust root or a key that they name cannot be used.
    """
    named = {name: getattr(args, name) for name in (*_WHO, *_WHAT) if getattr(args, name, None) is not None}
    try:
        if args.policy is not None:
            if named:
                raise ValueError(f"--policy says everything: leave --{min(named).replace('_', '-')} out")
            return load_verification_policy(args.policy)
        signer = _signer(args, named)
        return VerificationPolicy(signers=(signer,), demands=_demands(args, signer))
    except ExpectationError as err:
        raise RequestError(err.message, hint=err.hint) from err
    except ValueError as err:
        raise RequestError(str(err), hint="executor verify --help") from err


def _signer(args: argparse.Namespace, named: dict[str, Any]) -> Expectations:
    if args.key:
        if len(named.keys() & set(_WHO)) > 1:
            raise ValueError("--key accepts keys alone: leave the trust root and identities out")
        return expect_keys(args.key)
    who = {name: value for name, value in named.items() if name in _WHO and name != "trust_root"}
    for name in ("identity", "issuer"):  # before any file is looked at
        expected(f"--{name}", who.get(name), who.get(f"{name}_pattern"))
    if args.trust_root is not None:
        from signing.trust import load_trust_root  # whoever expects a key starts without it

        return expected_signer(load_trust_root(args.trust_root), **who)
    if who:
        raise ValueError("--identity and --issuer need --trust-root: whose word counts on them?")
    from executor.release.signer import own_expectations
    from executor.state.home import open_home  # not needed where a trust root is named

    return own_expectations(open_home())


def _demands(args: argparse.Namespace, signer: Expectations) -> Demands:
    if not hasattr(args, "require"):
        return NO_DEMANDS
    profile = expected("--profile", args.profile, None)
    assert profile is None or isinstance(profile, str), "not asked for by a pattern"
    return Demands(
        builder_id=expected("--builder", args.builder, args.builder_pattern),
        image_sha256=expected_digest("--image", args.image),
        policy_sha256=expected_digest("--policy-digest", args.policy_digest),
        profile=profile,
        reproduced=_quorum(args, signer),
        exact_modes=args.modes in (None, MODE_CHECKS[0]),
    )


def _quorum(args: argparse.Namespace, signer: Expectations) -> "Quorum | None":
    if args.require is None:
        if args.accept is not None:
            raise ValueError("--accept goes with --require reproduced")
        return None
    what, equals, count = args.require.partition("=")
    if not equals:
        count = "1"
    if what != "reproduced" or not _COUNT.fullmatch(count):
        raise ValueError(f"--require knows reproduced and reproduced=N: {args.require!r}")
    from signing.reproduction import Quorum

    accept = GOOD_RESULTS if args.accept == GOOD_RESULTS[1] else GOOD_RESULTS[:1]
    return Quorum(threshold=int(count), among=(signer,), accept=accept)
