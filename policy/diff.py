"""What changed between two effective policies, in a reviewer's words: newly allowed, newly denied, loosened. Pure.

Whatever cannot be shown to restrict counts as loosened: a change of the reason or the date does not, another runtime
does.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from policy.model import Policy

Effect = Literal["loosened", "tightened", "changed"]
# Ceilings and tolerances, where more is looser; of the others less is.
_MORE_IS_LOOSER = ("atol_max", "rtol_max")
_ORDER = ("loosened", "tightened", "changed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference.

    Attributes:
        effect: `loosened` lets more through or restricts a job less, `tightened` the opposite, `changed` neither.
        subject: What it is about, such as `onnx operator ai.onnx::Abs`.
        old: How it was.
        new: How it is.
    """

    effect: Effect
    subject: str
    old: str
    new: str

    def to_wire(self) -> dict[str, str]:
        """Return the JSON form."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        return f"{self.effect}: {self.subject}: {self.old} -> {self.new}"


def diff_policies(old: Policy, new: Policy, *, today: date) -> list[Change]:
    """Return all differences, the loosening ones first.

    Args:
        old: The policy as it was.
        new: The policy as it is.
        today: For rules that expire: one that has allows nothing.
    """
    changes = [
        *diff_of_what_leaves(old, new, today=today),
        *_whereabouts(old, new),
        *_egress(old, new, today),
        *_system_calls(old.seccomp_text, new.seccomp_text),
    ]
    return sorted(changes, key=lambda c: (_ORDER.index(c.effect), c.subject))


def diff_of_what_leaves(old: Policy, new: Policy, *, today: date) -> list[Change]:
    """Return the differences in what may leave and what a job may ask for, whatever it runs in."""
    changes = [
        *_operators(old, new, today),
        *_plugins(old, new, today),
        *_waivers(old, new, today),
        *_formats(old, new),
        *_numbers(old, new),
        *_sets("signers", set(old.profile.signers), set(new.profile.signers)),
    ]
    return sorted(changes, key=lambda c: (_ORDER.index(c.effect), c.subject))


def _operators(old: Policy, new: Policy, today: date) -> Iterator[Change]:
    for form in sorted({*old.operators, *new.operators}):
        before, after = (_standing(policy, form, today) for policy in (old, new))
        for namespace, name in sorted({*before, *after}):
            was, now = (side.get((namespace, name), ("deny", "by default")) for side in (before, after))
            subject = f"{form} operator {namespace or 'ai.onnx'}::{name}"
            if was[0] != now[0]:
                words = ("newly allowed", "newly denied")
                effect: Effect = "loosened" if now[0] == "allow" else "tightened"
                yield Change(
                    effect=effect,
                    subject=f"{subject} {words[effect != 'loosened']}",
                    old=" ".join(was),
                    new=" ".join(now),
                )
            elif was != now:
                yield Change(effect="changed", subject=subject, old=" ".join(was), new=" ".join(now))
        yield from _expiries(old, new, form)


def _standing(policy: Policy, form: str, today: date) -> dict[tuple[str, str], tuple[str, str]]:
    """Return effect and rule of every operator that is named. A denying rule wins; an expired one allows nothing."""
    standing: dict[tuple[str, str], tuple[str, str]] = {}
    rules = policy.operators[form].rule if form in policy.operators else ()
    for rule in sorted(rules, key=lambda r: r.effect == "deny"):
        expired = rule.effect == "allow" and rule.expires is not None and rule.expires < today
        for name in rule.names:
            key = (rule.namespace, name)
            if expired:
                standing.setdefault(key, ("deny", f"by {rule.id}, which has expired"))
            else:
                standing[key] = (rule.effect, f"by {rule.id}")
    return standing


def _expiries(old: Policy, new: Policy, form: str) -> Iterator[Change]:
    """A rule that stands longer lets more through, though not today."""
    before, after = (
        {r.id: r.expires for r in p.operators[form].rule if r.effect == "allow"} if form in p.operators else {}
        for p in (old, new)
    )
    for rule in sorted(before.keys() & after.keys()):
        yield from _expiry(f"rule {rule}", before[rule], after[rule])
    unlisted = (
        {
            f"{rule.namespace}::{name}"
            for rule in (p.operators[form].rule if form in p.operators else ())
            if rule.loader_makes
            for name in rule.names
        }
        for p in (old, new)
    )
    yield from _sets(f"{form} operators that the loader may make", *unlisted)


def _expiry(what: str, was: date | None, now: date | None) -> Iterator[Change]:
    if was != now:
        later = now is None or (was is not None and now > was)
        yield Change(
            effect="loosened" if later else "tightened",
            subject=f"expiry of {what}",
            old=str(was or "never"),
            new=str(now or "never"),
        )


def _plugins(old: Policy, new: Policy, today: date) -> Iterator[Change]:
    """A plugin is its bytes: others under the same name are another plugin."""
    before, after = (
        {
            f"{p.runtime} {label} by sha256 {p.sha256[:12]} ({p.name})"
            for p in policy.plugins.values()
            if p.expires is None or p.expires >= today
            for label in p.operators
        }
        for policy in (old, new)
    )
    yield from _sets("plugin operator", before, after)
    was, now = ({p.sha256: p.expires for p in policy.plugins.values()} for policy in (old, new))
    for digest in sorted(was.keys() & now.keys()):
        yield from _expiry(f"plugin {digest[:12]}", was[digest], now[digest])


def _waivers(old: Policy, new: Policy, today: date) -> Iterator[Change]:
    before, after = (
        {
            f"{w.format} operator {w.namespace or 'ai.onnx'}::{w.name} in {w.artifact_sha256[:12]} until {w.expires}"
            for w in policy.profile.waiver
            if w.expires >= today
        }
        for policy in (old, new)
    )
    yield from _sets("waiver", before, after)


def _formats(old: Policy, new: Policy) -> Iterator[Change]:
    before, after = ({f"format {rule.format}": rule for rule in policy.profile.format} for policy in (old, new))
    yield from _sets("formats", set(before), set(after))
    for name in sorted(before.keys() & after.keys()):
        yield from _sets(f"roles of {name}", set(before[name].roles), set(after[name].roles))
        yield from _sets(f"endings of {name}", set(before[name].suffixes), set(after[name].suffixes))


def _numbers(old: Policy, new: Policy) -> Iterator[Change]:
    was, now = old.profile, new.profile
    for name in ("onnx_opset", "onnx_ir"):
        yield from _number(f"{name}.min", getattr(was, name).min, getattr(now, name).min, more_is_looser=False)
        yield from _number(f"{name}.max", getattr(was, name).max, getattr(now, name).max, more_is_looser=True)
    for name, value in was.replay.model_dump().items():
        looser = name in _MORE_IS_LOOSER
        yield from _number(f"replay.{name}", value, getattr(now.replay, name), more_is_looser=looser)
    for name, value in was.ceilings.model_dump().items():
        yield from _number(f"ceilings.{name}", value, getattr(now.ceilings, name), more_is_looser=True)


def _number(subject: str, old: float, new: float, *, more_is_looser: bool) -> Iterator[Change]:
    if old != new:
        effect: Effect = "loosened" if (new > old) == more_is_looser else "tightened"
        yield Change(effect=effect, subject=subject, old=f"{old:g}", new=f"{new:g}")


def _whereabouts(old: Policy, new: Policy) -> Iterator[Change]:
    yield from _sets("images", set(old.profile.images), set(new.profile.images))
    if old.profile.runtime != new.profile.runtime:
        effect: Effect = "tightened" if new.profile.runtime == "runsc" else "loosened"
        yield Change(effect=effect, subject="runtime", old=old.profile.runtime, new=new.profile.runtime)


def _egress(old: Policy, new: Policy, today: date) -> Iterator[Change]:
    before, after = (
        {f"{r.host}:{r.port}": r.address for r in p.profile.egress if r.expires is None or r.expires >= today}
        for p in (old, new)
    )
    yield from _sets("egress", set(before), set(after))
    for place in sorted(before.keys() & after.keys()):
        if before[place] != after[place]:
            yield Change(
                effect="loosened",
                subject=f"address of {place}",
                old=before[place] or "looked up",
                new=after[place] or "looked up",
            )


def _system_calls(old: str, new: str) -> Iterator[Change]:
    if old == new:
        return
    before, after = (json.loads(text) for text in (old, new))
    allowed, allows = _allowed_calls(before), _allowed_calls(after)
    # Who may make a call with any argument loses by a condition, and gains by the end of one.
    yield from _sets("system calls", _without_narrower(allowed, allows), _without_narrower(allows, allowed))
    was, now = (_other_than_allowing(document) for document in (before, after))
    if was != now:
        yield Change(effect="loosened", subject="seccomp defaults, or calls that it denies by name", old=was, new=now)


def _allowed_calls(document: dict[str, Any]) -> set[str]:
    calls = set()
    for entry in document["syscalls"]:
        if entry["action"] == "SCMP_ACT_ALLOW":
            condition = {key: value for key, value in entry.items() if key not in ("names", "action", "comment")}
            suffix = f" where {json.dumps(condition, sort_keys=True)}" if condition else ""
            calls |= {f"{name}{suffix}" for name in entry["names"]}
    return calls


def _without_narrower(calls: set[str], others: set[str]) -> set[str]:
    """Return calls without those under a condition that the other filter allows without any."""
    return {call for call in calls if " where " not in call or call.partition(" ")[0] not in others}


def _other_than_allowing(document: dict[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != "syscalls"}
    denied = [
        (name, {k: v for k, v in entry.items() if k not in ("names", "comment")})
        for entry in document["syscalls"]
        if entry["action"] != "SCMP_ACT_ALLOW"
        for name in entry["names"]
    ]
    return json.dumps([rest, sorted(denied, key=str)], sort_keys=True)


def _sets(subject: str, old: set[str], new: set[str]) -> Iterator[Change]:
    for name in sorted(new - old):
        yield Change(effect="loosened", subject=f"{subject}: {name}", old="absent", new="present")
    for name in sorted(old - new):
        yield Change(effect="tightened", subject=f"{subject}: {name}", old="present", new="absent")
