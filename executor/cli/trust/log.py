"""`executor trust log`: what was logged, to find the entry from which on an epoch shall not count any more."""

import argparse
import json
from datetime import UTC, datetime
from typing import TextIO

from executor.errors import RequestError
from executor.release.signer import require_local
from executor.state.home import open_home
from signing.local import open_existing

SCHEMA = "executor.trust-log/v1"


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """List index, time and the statement's digest, as `executor verify --json` says it of a release."""
    home = open_home()
    require_local(home)
    domain = open_existing(home.root / "trust")
    epochs = [epoch.number for epoch in domain.epochs()]
    number = epochs[-1] if args.epoch is None else args.epoch
    if number not in epochs:
        raise RequestError(f"there is no epoch {number}", hint="see `executor trust show`")
    entries = [
        {"index": index, "time": datetime.fromtimestamp(time, UTC).isoformat(), "statement_sha256": digest}
        for index, (time, digest) in enumerate(domain.log(number).entries())
    ]
    if getattr(args, "json", False):
        wire = {"schema": SCHEMA, "status": "ok", "exit_code": 0, "epoch": number, "entries": entries}
        out.write(json.dumps(wire, indent=2) + "\n")
    else:
        out.writelines(f"{e['index']}  {e['time']}  {e['statement_sha256']}\n" for e in entries)
    return 0
