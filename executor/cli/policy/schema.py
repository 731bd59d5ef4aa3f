"""`executor policy schema NAME`: the JSON Schema of a policy file, for editors."""

import argparse
import json
from typing import TextIO

from pydantic import BaseModel

from policy.findings import FindingTexts
from policy.model import OperatorRules, PluginRule, Profile

_MODELS: dict[str, type[BaseModel]] = {
    "profile": Profile,
    "operators": OperatorRules,
    "plugin": PluginRule,
    "findings": FindingTexts,
}


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Print a schema."""
    schema = _MODELS[args.name].model_json_schema(by_alias=True)
    out.write(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n")
    return 0
