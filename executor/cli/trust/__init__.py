"""`executor trust ACTION`: who signs on this host, what verifiers are given, and what to do about keys."""

import argparse
import importlib
from typing import TextIO

from executor.cli.arguments import named_path
from signing.choice import TRUST_MODES

FORMS = ("trust", "trusted-root", "client-trust-config", "public-key")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions; the module of the same name in this package does each."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", prog="executor trust")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        command = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object, on failure too"
        )
        return command

    init = action("init", "choose who signs on this host; what a mode proves is in signing/README.md")
    init.add_argument("--mode", choices=TRUST_MODES, help="default: what was chosen before, or local")
    init.add_argument("--replace", action="store_true", help="choose another mode than was chosen before")
    init.add_argument("--encrypt", action="store_true", help="keep keys encrypted, by a passphrase in the environment")
    init.add_argument(
        "--key", type=named_path, metavar="FILE", help="key: take this P-256 private key; default: a new one"
    )
    init.add_argument("--trust-config", type=named_path, metavar="FILE", help="keyless: the client trust configuration")
    init.add_argument("--token-variable", metavar="NAME", help="keyless: the variable that holds the identity token")
    init.add_argument("--token-file", metavar="FILE", help="keyless: the file that holds it")
    init.add_argument("--ambient", action="store_true", help="keyless: ask the platform for it, such as GitHub Actions")
    init.add_argument("--identity", metavar="URI", help="keyless: whom certificates will name")
    init.add_argument("--issuer", metavar="URI", help="keyless: the issuer of that identity")
    show = action("show", "say who signs, under which keys, and how far the log is")
    show.add_argument(
        "--since",
        type=named_path,
        metavar="FILE",
        help="prove that the log has only grown since `show --json` printed it",
    )
    export = action("export", "write what verifiers need")
    export.add_argument("--form", choices=FORMS, help="default: what `executor verify` takes")
    export.add_argument("--out", type=named_path, metavar="FILE", help="where to; default: stdout")
    action("rotate", "close the log and open a new one with new keys: old releases stay valid, old keys sign no more")
    log = action("log", "list what was logged, to find the entry to revoke from")
    log.add_argument("--epoch", type=int, metavar="N", help="whose log, as `show` numbers them; default: the open one")
    revoke = action("revoke", "let a log count only up to an entry, as after a theft of keys")
    revoke.add_argument("--epoch", type=int, required=True, metavar="N", help="whose log, as `show` numbers them")
    revoke.add_argument("--from-index", type=int, required=True, metavar="N", help="the first entry not to count")
    revoke.add_argument("--reason", required=True, metavar="TEXT")


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Do one action."""
    code: int = importlib.import_module(f"executor.cli.trust.{args.action}").execute(args, out)
    return code
