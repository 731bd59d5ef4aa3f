"""`executor policy lint [FOLDER]`: whether every profile can be read, and which rules are due for review."""

import argparse
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TextIO

from executor.cli.policy.reading import policy_folder, print_result, profiles_of, today
from executor.exits import Exit
from policy.errors import PolicyError
from policy.load import load_policy
from policy.model import Policy

SCHEMA = "executor.policy-lint/v1"
_DUE = timedelta(days=30)


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Read all profiles of a folder."""
    folder = policy_folder(args.folder)
    problems = [problem for name in profiles_of(folder) for problem in _of_profile(folder, name, today())]
    errors = sum(problem["level"] == "error" for problem in problems)
    code = Exit.INVALID_REQUEST if errors or not profiles_of(folder) else Exit.RELEASED
    document = {
        "schema": SCHEMA,
        "status": "invalid" if code else "valid",
        "exit_code": int(code),
        "profiles": profiles_of(folder),
        "problems": problems,
    }
    lines = [f"{p['level']}: {p['profile']}: {p['message']}" for p in problems]
    lines.append(f"{len(profiles_of(folder))} profiles, {errors} errors, {len(problems) - errors} warnings")
    print_result(out, document, "\n".join(lines), as_json=args.json)
    return int(code)


def _of_profile(folder: Path, name: str, day: date) -> Iterator[dict[str, Any]]:
    try:
        policy = load_policy(name, folder=folder)
    except PolicyError as err:
        yield {"level": "error", "profile": name, "message": err.message}
        return
    for message in _warnings(policy, day):
        yield {"level": "warning", "profile": name, "message": message}


def _warnings(policy: Policy, day: date) -> Iterator[str]:
    for what, reviewed, expires in _reviewed(policy):
        if reviewed > day:
            yield f"{what} was reviewed on {reviewed}, which is still to come"
        if expires is not None and expires < day:
            yield f"{what} expired on {expires} and allows nothing"
        elif expires is not None and expires - day <= _DUE:
            yield f"{what} expires on {expires}"


def _reviewed(policy: Policy) -> Iterator[tuple[str, date, date | None]]:
    yield f"profile {policy.profile.name}", policy.profile.reviewed, None
    for rules in policy.operators.values():
        for rule in rules.rule:
            yield f"rule {rule.id}", rule.reviewed, rule.expires
    for plugin in policy.plugins.values():
        yield f"plugin {plugin.name}", plugin.reviewed, plugin.expires
    for waiver in policy.profile.waiver:
        yield f"waiver {waiver.id}", waiver.reviewed, waiver.expires
    for place in policy.profile.egress:
        yield f"egress rule {place.id}", place.reviewed, place.expires
