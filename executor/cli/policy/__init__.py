"""`executor policy ACTION`: for reviewers: check the policy's files, try their cases, compare, explain."""

import argparse
import importlib
from typing import TextIO

from executor.cli.arguments import named_path

_POLICY = "profile, such as standard, or FOLDER:PROFILE for the policy folder of another checkout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions; the module of the same name in this package does each."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        command = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object, on failure too"
        )
        return command

    for name, text in (
        ("lint", "read every profile and all that it names, and say what is wrong or due"),
        ("test", "try the cases of every rule of every profile"),
    ):
        action(name, text).add_argument("folder", nargs="?", help="a policy folder; this distribution's by default")
    diff = action("diff", "say what changed between two policies: newly allowed, newly denied, loosened")
    diff.add_argument("old", help=_POLICY)
    diff.add_argument("new", help=_POLICY)
    diff.add_argument("--no-loosening", action="store_true", help="exit with 20 where anything was loosened")
    explain = action("explain", "say what a rule or a finding means, and what to do about it")
    explain.add_argument("rule", metavar="RULE", help="its id, such as TS-FILES")
    inventory = action("inventory", "list what files hold, as a run would see them, and what the policy says to it")
    inventory.add_argument("files", type=named_path, nargs="+", metavar="FILE")
    inventory.add_argument("--profile", default="standard", help="whose rules to apply (default standard)")
    schema = action("schema", "print the JSON Schema of a policy file, for editors")
    schema.add_argument("name", choices=("profile", "operators", "plugin", "findings"))
    replay = action("replay", "make the decision of a recorded run again, from the record alone")
    replay.add_argument("record", type=named_path, metavar="RECORD", help="the record.json of a run")
    replay.add_argument("--sarif", type=named_path, metavar="FILE", help="also write the findings as SARIF 2.1.0")


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Do one action."""
    code: int = importlib.import_module(f"executor.cli.policy.{args.action}").execute(args, out)
    return code
