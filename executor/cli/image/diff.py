"""`executor image diff OLD NEW`: what changed between two locks, the alarming first."""

import argparse
from typing import Any, TextIO

from executor.cli.image.workshop import print_result
from executor.exits import Exit
from images.diff import InputChange, Kind, LockDiff, diff_locks
from images.lock import read_lock

_MARKS = {Kind.SUBSTITUTED: "!", Kind.CHANGED: "~", Kind.ADDED: "+", Kind.REMOVED: "-"}


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Compare two locks."""
    found = diff_locks(read_lock(args.old), read_lock(args.new))
    print_result(out, found.to_wire(), render(found), as_json=args.json)
    return int(Exit.IMAGE_MISMATCH if args.no_substitution and found.substituted else Exit.RELEASED)


def render(found: LockDiff) -> str:
    """Return a diff for people."""
    if found.same:
        return "nothing changed"
    lines = []
    if found.substituted:
        lines += [f"!!! {len(found.substituted)} PACKAGES KEPT THEIR VERSION AND CHANGED THEIR BYTES: ask why, first"]
    lines += [_line(c) for c in found.inputs]
    lines += [f"recipe {name}: {_change(old, new)}" for name, (old, new) in found.recipe.items()]
    lines += [f"layer {name} {fate if fate == 'kept' else fate.upper()}" for name, fate in found.layers]
    lines += [f"image {found.image_ids[0][7:19]} -> {found.image_ids[1][7:19]}"]
    return "\n".join(lines)


def _line(change: InputChange) -> str:
    item, old, new = change.item, change.old, change.new
    text = f"{_MARKS[change.kind]} {item.kind} {item.name}"
    if item.version:
        versions = [i.version for i in (old, new) if i is not None]
        text += " " + " -> ".join(dict.fromkeys(versions))
    text += f" ({change.size_delta:+,} B)"
    if change.kind is Kind.SUBSTITUTED:
        assert old is not None, "a substitution has both sides"
        assert new is not None, "a substitution has both sides"
        text += f" SAME VERSION, OTHER HASH {old.sha256[:12]} -> {new.sha256[:12]}"
    return text + (" security" if change.security else "")


def _change(old: Any, new: Any) -> str:
    if isinstance(old, list) and isinstance(new, list):
        parts = [f"+{v}" for v in new if v not in old] + [f"-{v}" for v in old if v not in new]
        return " ".join(parts) or "in another order"
    if isinstance(old, dict) and isinstance(new, dict):
        return " ".join(sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k)))
    return f"{old} -> {new}"
