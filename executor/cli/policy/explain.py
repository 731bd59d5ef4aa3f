"""`executor policy explain ID`: what a rule or a finding means, who reviewed it, and what to do about it."""

import argparse
from collections.abc import Iterator
from typing import Any, TextIO

from executor.cli.policy.reading import print_result, profiles_of
from executor.errors import RequestError
from policy.findings import load_findings
from policy.load import FOLDER, load_policy

SCHEMA = "executor.policy-explanation/v1"


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Explain one rule or finding."""
    known = dict(_everything())
    found = known.get(args.rule.upper())
    if found is None:
        similar = sorted(name for name in known if name.startswith(args.rule.upper().partition("-")[0]))
        raise RequestError(
            f"no rule and no finding has the id {args.rule!r}", hint=f"there are: {', '.join(similar or sorted(known))}"
        )
    document = {"schema": SCHEMA, "status": "found", "exit_code": 0, **found}
    print_result(out, document, _render(found), as_json=args.json)
    return 0


def _everything() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all findings and all rules. A rule that several profiles share stands once, with the profiles' names."""
    for text in load_findings().values():
        yield text.id, {"id": text.id, "kind": "finding", "meaning": text.meaning, "remedy": text.remedy}
    rules: dict[str, dict[str, Any]] = {}
    for name in profiles_of(FOLDER):
        policy = load_policy(name)
        entries = [
            {"kind": "operator rule", "format": form, **rule.model_dump(mode="json")}
            for form, file in policy.operators.items()
            for rule in file.rule
        ]
        entries += [{"kind": "egress rule", **rule.model_dump(mode="json")} for rule in policy.profile.egress]
        entries += [{"kind": "plugin", **rule.model_dump(mode="json")} for rule in policy.plugins.values()]
        entries += [{"kind": "waiver", **waiver.model_dump(mode="json")} for waiver in policy.profile.waiver]
        for entry in entries:
            rules.setdefault(entry["id"], entry | {"profiles": []})["profiles"].append(name)
    yield from rules.items()


def _render(entry: dict[str, Any]) -> str:
    lines = [f"{entry['id']}: {entry['kind']}"]
    for name, value in entry.items():
        if name not in ("id", "kind") and value not in (None, "", []):
            lines.append(f"  {name}: {', '.join(value) if isinstance(value, list) else value}")
    return "\n".join(lines)
