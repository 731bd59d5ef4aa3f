"""`executor trust init`: choose who signs on this host."""

import argparse
from datetime import UTC, datetime
from typing import TextIO

from executor.cli.trust.show import describe, write
from executor.errors import RequestError
from executor.home import open_home
from signing.keyless import TokenSource
from signing.keys import PASSPHRASE_VARIABLE, passphrase_from_environment
from signing.local import open_or_create
from signing.modes import choose_key, choose_keyless, choose_local
from signing.trust import load_trust_root

_KEYLESS = ("trust_config", "token_variable", "token_file", "identity", "issuer")


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Make or take what signs, and say what it is."""
    home, passphrase = open_home(), passphrase_from_environment()
    if args.encrypt and passphrase is None:
        raise RequestError("--encrypt needs a passphrase", hint=f"set {PASSPHRASE_VARIABLE}, and keep it set for runs")
    given = [name for name in _KEYLESS if getattr(args, name) is not None]
    if args.mode != "keyless" and (given or args.ambient):
        raise RequestError(f"--{(given or ['ambient'])[0].replace('_', '-')} goes with --mode keyless")
    if args.mode != "key" and args.key is not None:
        raise RequestError("--key goes with --mode key")
    if args.mode == "local":
        choose_local(home.trust, now=datetime.now(UTC), passphrase=passphrase)
        if args.encrypt:
            open_or_create(home.trust, now=datetime.now(UTC), passphrase=passphrase).encrypt_keys()
    elif args.mode == "key":
        choose_key(home.trust, key=args.key, passphrase=passphrase)
    else:
        _choose_keyless(args)
    write(out, describe(home), as_json=getattr(args, "json", False))
    return 0


def _choose_keyless(args: argparse.Namespace) -> None:
    if args.trust_config is None or not args.identity or not args.issuer:
        raise RequestError(
            "keyless signing needs --trust-config, --identity and --issuer",
            hint="signing/README.md says how to get the configuration of the public instance",
        )
    try:
        token = TokenSource(variable=args.token_variable or "", file=args.token_file or "", ambient=args.ambient)
    except ValueError as err:
        raise RequestError(str(err), hint="name one of --token-variable, --token-file and --ambient") from err
    load_trust_root(args.trust_config)
    choose_keyless(
        open_home().trust,
        trust_config=args.trust_config.read_bytes(),
        token=token.to_wire(),
        identity=args.identity,
        issuer=args.issuer,
    )
