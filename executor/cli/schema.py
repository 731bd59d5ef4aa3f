"""`executor schema NAME`: JSON Schemas of what callers write and read."""

import argparse
import json
from typing import TextIO


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the name of the schema."""
    parser.add_argument("name", choices=("job", "profile", "operators"))


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Print a schema."""
    out.write(json.dumps(_schema(args.name), indent=2) + "\n")
    return 0


def _schema(name: str) -> dict[str, object]:
    if name == "job":
        from executor.jobspec import job_schema

        return job_schema()
    from executor.cli.policy.schema import policy_schema

    return policy_schema(name)
