"""`executor trust revoke`: let a log count only up to an entry."""

import argparse
import sys
from datetime import UTC, datetime
from typing import TextIO

from executor.cli.printing import say
from executor.cli.trust.rotate import PUBLISH, local_domain
from executor.cli.trust.show import describe, write
from executor.state.home import open_home


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Revoke, and say what came of it."""
    home, now = open_home(), datetime.now(UTC)
    local_domain(home).revoke(epoch=args.epoch, from_index=args.from_index, reason=args.reason, now=now)
    write(out, describe(home), as_json=getattr(args, "json", False))
    say(sys.stderr, PUBLISH)
    return 0
