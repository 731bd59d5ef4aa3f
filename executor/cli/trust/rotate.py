"""`executor trust rotate`: close the log and open a new one with new keys."""

import argparse
import sys
from datetime import UTC, datetime
from typing import TextIO

from executor.cli.printing import say
from executor.cli.trust.show import describe, write
from executor.release.signer import require_local
from executor.state.home import Home, open_home
from signing.keys import passphrase_from_environment
from signing.local import LocalTrustDomain, open_or_create

PUBLISH = "now give verifiers the new document: executor trust export"


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Rotate, and say what came of it."""
    home = open_home()
    local_domain(home).rotate(now=datetime.now(UTC))
    write(out, describe(home), as_json=getattr(args, "json", False))
    say(sys.stderr, PUBLISH)
    return 0


def local_domain(home: Home) -> LocalTrustDomain:
    """Return the local trust domain, open for changes.

    Raises:
        RequestError: There is none.
    """
    require_local(home)
    return open_or_create(home.trust, now=datetime.now(UTC), passphrase=passphrase_from_environment())
