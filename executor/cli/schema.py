"""`executor schema NAME`: JSON Schemas of what callers write and read."""

import argparse
import importlib.resources
import json
from typing import TextIO

# What is signed, and what verifiers write and are given: signing/FORMAT.md.
SIGNED = (
    *("request", "sandbox", "decision", "release", "artifact", "record", "reproduction"),
    *("trust", "verification-policy"),
)
# What the executor sends to and takes from a worker in a container.
EXECUTED = ("worker",)
# What the command prints of them: signing/README.md.
PRINTED = ("verification", "error", "trust-status", "trust-log")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the name of the schema."""
    parser.add_argument("name", choices=("job", "profile", "operators", *EXECUTED, *SIGNED, *PRINTED))


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Print a schema."""
    out.write(json.dumps(_schema(args.name), indent=2) + "\n")
    return 0


def _schema(name: str) -> dict[str, object]:
    if name == "job":
        from executor.job.spec import job_schema

        return job_schema()
    if name in EXECUTED + SIGNED + PRINTED:
        folder = importlib.resources.files("executor" if name in EXECUTED else "signing") / "schema"
        schema: dict[str, object] = json.loads((folder / f"{name}.schema.json").read_bytes())
        return schema
    from executor.cli.policy.schema import policy_schema

    return policy_schema(name)
