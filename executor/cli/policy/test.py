"""`executor policy test [FOLDER]`: try the cases of every rule of every profile."""

import argparse
from typing import TextIO

from executor.cli.policy.reading import policy_folder, print_result, profiles_of, today
from executor.exits import Exit
from policy.cases import try_cases
from policy.load import load_policy

SCHEMA = "executor.policy-test/v1"


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Try all cases of a folder's profiles."""
    folder = policy_folder(args.folder)
    results = {name: try_cases(load_policy(name, folder=folder), today=today()) for name in profiles_of(folder)}
    wrong = [(name, result) for name, found in results.items() for result in found if result.wrong]
    code = Exit.VERIFICATION_FAILED if wrong or not results else Exit.RELEASED
    document = {
        "schema": SCHEMA,
        "status": "failed" if code else "passed",
        "exit_code": int(code),
        "cases": {name: len(found) for name, found in results.items()},
        "failures": [{"profile": name, **result.to_wire()} for name, result in wrong],
    }
    lines = [f"{name}: {r.rule}: must {r.wanted} {r.case or 'an operator of its own'}: {r.wrong}" for name, r in wrong]
    count = sum(len(found) for found in results.values())
    lines.append(f"{count} cases of {len(results)} profiles, {len(wrong)} failed")
    print_result(out, document, "\n".join(lines), as_json=args.json)
    return int(code)
