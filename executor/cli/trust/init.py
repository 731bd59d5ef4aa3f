"""`executor trust init`: choose who signs on this host."""

import argparse
from datetime import UTC, datetime
from typing import TextIO

from executor.cli.trust.show import describe, write
from executor.errors import RequestError
from executor.state.home import Home, open_home
from signing.choice import TRUST_MODES, is_chosen, mode_of
from signing.files import read_named
from signing.keyless import TokenSource, check_client_config
from signing.keys import PASSPHRASE_VARIABLE, passphrase_from_environment
from signing.local import open_or_create
from signing.modes import choose_key, choose_keyless, choose_local

_KEYLESS = ("trust_config", "token_variable", "token_file", "identity", "issuer")


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Make or take what signs, and say what it is."""
    home, passphrase = open_home(), passphrase_from_environment()
    if args.encrypt and passphrase is None:
        raise RequestError("--encrypt needs a passphrase", hint=f"set {PASSPHRASE_VARIABLE}, and keep it set for runs")
    mode = _mode(args, home)
    _check_options(args, mode)
    if mode == "local":
        choose_local(home.trust, now=datetime.now(UTC), passphrase=passphrase)
        if args.encrypt:
            open_or_create(home.trust, now=datetime.now(UTC), passphrase=passphrase).encrypt_keys()
    elif mode == "key":
        choose_key(home.trust, key=args.key, passphrase=passphrase)
    elif args.trust_config is not None or args.mode is not None:  # else it stays as it was chosen
        _choose_keyless(args, home)
    write(out, describe(home), as_json=getattr(args, "json", False))
    return 0


def _mode(args: argparse.Namespace, home: Home) -> str:
    """Return the mode to choose: who signs must not change because somebody set the host up once more."""
    folder = home.root / "trust"
    chosen = mode_of(folder) if is_chosen(folder) else None
    mode: str = args.mode or chosen or TRUST_MODES[0]
    if chosen not in (None, mode) and not args.replace:
        raise RequestError(
            f"this host signs in mode {chosen!r} already",
            hint="verifiers will have to expect another signer: say so with --replace",
        )
    return mode


def _check_options(args: argparse.Namespace, mode: str) -> None:
    given = [name for name in _KEYLESS if getattr(args, name) is not None] + ["ambient"] * args.ambient
    if mode != "keyless" and given:
        raise RequestError(f"--{given[0].replace('_', '-')} goes with --mode keyless")
    if mode == "keyless" and args.encrypt:
        raise RequestError("--encrypt goes with the modes that have keys: local and key")
    if mode != "key" and args.key is not None:
        raise RequestError("--key goes with --mode key")


def _choose_keyless(args: argparse.Namespace, home: Home) -> None:
    if args.trust_config is None or not args.identity or not args.issuer:
        raise RequestError(
            "keyless signing needs --trust-config, --identity and --issuer",
            hint="signing/README.md says how to get the configuration of the public instance",
        )
    try:
        token = TokenSource(variable=args.token_variable or "", file=args.token_file or "", ambient=args.ambient)
    except ValueError as err:
        raise RequestError(str(err), hint="name one of --token-variable, --token-file and --ambient") from err
    try:
        config = read_named(args.trust_config)
        check_client_config(config)
    except (OSError, ValueError) as err:
        why = err.strerror if isinstance(err, OSError) else err
        raise RequestError(f"not a client trust configuration: {args.trust_config}: {why}") from err
    choose_keyless(home.trust, trust_config=config, token=token.to_wire(), identity=args.identity, issuer=args.issuer)
