"""`executor policy schema NAME`: the JSON Schema of a policy file, for editors. The same is under `policy/schema/`."""

import argparse
import json
from typing import Any, TextIO

from pydantic import BaseModel

from policy.findings import FindingTexts
from policy.model import OperatorRules, PluginRule, Profile

MODELS: dict[str, type[BaseModel]] = {
    "profile": Profile,
    "operators": OperatorRules,
    "plugin": PluginRule,
    "findings": FindingTexts,
}


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Print a schema."""
    out.write(json.dumps(policy_schema(args.name), indent=2) + "\n")
    return 0


def policy_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a kind of policy file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **MODELS[name].model_json_schema(by_alias=True),
    }
