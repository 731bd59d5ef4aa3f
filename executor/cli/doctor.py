"""`executor doctor`: check whether this host can run jobs safely, and clean up after runs whose executor died."""

import argparse
import json
import sys
from typing import TextIO

from executor.cli.printing import say
from executor.doctor.checks import PROFILE, examine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how deep to look."""
    parser.add_argument("--deep", action="store_true", help="also try to break out of the sandbox, in every known way")
    parser.add_argument("--profile", default=PROFILE, help=f"whose sandbox to try (default {PROFILE})")


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Print the findings; fail where one of them would stop a run."""
    report = examine(deep=args.deep, profile=args.profile, say=lambda text: say(sys.stderr, text))
    if args.json:
        out.write(json.dumps(report.to_wire(), indent=2) + "\n")
    else:
        for check in report.checks:
            out.write(f"{'ok   ' if check.ok else 'FAIL '} {check.name}: {check.detail}\n")
            if not check.ok and check.hint:
                out.write(f"      hint: {check.hint}\n")
        for item in report.removed:
            out.write(f"removed {item}\n")
    return int(report.exit)
