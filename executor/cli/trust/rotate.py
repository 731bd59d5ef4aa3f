"""`executor trust rotate`: close the log and open a new one with new keys."""

import argparse
import sys
from datetime import UTC, datetime
from typing import TextIO

from executor.cli.trust.show import describe, write
from executor.errors import RequestError
from executor.home import Home, open_home
from signing.choice import mode_of
from signing.keys import passphrase_from_environment
from signing.local import LocalTrustDomain, open_or_create

PUBLISH = "now give verifiers the new document: executor trust export"


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Rotate, and say what came of it."""
    home = open_home()
    local_domain(home).rotate(now=datetime.now(UTC))
    write(out, describe(home), as_json=getattr(args, "json", False))
    print(PUBLISH, file=sys.stderr)
    return 0


def local_domain(home: Home) -> LocalTrustDomain:
    """Return the local trust domain, which alone has a log of its own.

    Raises:
        RequestError: Something else signs on this host.
    """
    mode = mode_of(home.root / "trust")
    if mode != "local":
        raise RequestError(
            f"trust mode {mode!r} has no log of its own to close",
            hint="key: make a new key and list it in place of the old one; keyless: its operators rotate",
        )
    return open_or_create(home.trust, now=datetime.now(UTC), passphrase=passphrase_from_environment())
