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
    from policy.model import OperatorRules, Profile

    model = Profile if name == "profile" else OperatorRules
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(by_alias=True)}
