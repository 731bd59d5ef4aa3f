"""`executor plan JOB`: print the launch plan that `run` would execute. Starts nothing and asks no engine."""

import argparse
import json
from typing import TextIO

from executor.cli.arguments import named_path
from executor.job.prepare import prepare
from executor.state.home import open_home


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the job file."""
    parser.add_argument("job", type=named_path, help="the job file, YAML or JSON")


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Print the plan and its digest."""
    plan = prepare(args.job, home=open_home()).plan
    out.write(json.dumps(plan.to_wire() | {"plan_sha256": plan.digest}, indent=2) + "\n")
    return 0
