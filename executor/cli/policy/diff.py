"""`executor policy diff OLD NEW`: what changed between two effective policies, what loosens them first."""

import argparse
from typing import TextIO

from executor.cli.policy.reading import print_result, read_policy, today
from executor.exits import Exit
from policy.diff import diff_policies

SCHEMA = "executor.policy-diff/v1"
_MARKS = {"loosened": "!", "tightened": "-", "changed": "~"}


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Compare two policies."""
    old, new = read_policy(args.old), read_policy(args.new)
    changes = diff_policies(old, new, today=today())
    loosened = sum(change.effect == "loosened" for change in changes)
    code = Exit.DENIED if args.no_loosening and loosened else Exit.RELEASED
    document = {
        "schema": SCHEMA,
        "status": "loosened" if loosened else "not_loosened",
        "exit_code": int(code),
        "old": {"profile": old.profile.name, "sha256": old.digest},
        "new": {"profile": new.profile.name, "sha256": new.digest},
        "changes": [change.to_wire() for change in changes],
    }
    lines = [f"{_MARKS[change.effect]} {change}" for change in changes] or ["nothing changed"]
    print_result(out, document, "\n".join(lines), as_json=args.json)
    return int(code)
