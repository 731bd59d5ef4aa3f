"""Read the policy's files into one effective policy with a stable digest."""

import hashlib
import json
import tomllib
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from policy.diff import diff_of_what_leaves
from policy.errors import PolicyFileError
from policy.model import OperatorRules, PluginRule, Policy, Profile

_Model = TypeVar("_Model", bound=BaseModel)
FOLDER = Path(__file__).parent
# Where a job runs is a profile's own to say, but for the network; what may leave can only be tightened.
_EXTENDING_MAY_SAY = frozenset(set(Profile.model_fields) - {"schema_", "network", "egress", "waiver"} | {"schema"})


def load_policy(name: str, *, folder: Path = FOLDER) -> Policy:
    """Read a profile and all that it names.

    Raises:
        PolicyFileError: A file is missing or malformed.
    """
    known = sorted(p.stem for p in (folder / "profiles").glob("*.toml"))
    if name not in known:
        raise PolicyFileError(f"no profile named {name!r}", hint=f"profiles: {', '.join(known)}")
    profile, base = _read_profile(folder / "profiles", name)
    policy = _effective(profile, folder)
    if base is not None:
        _check_tightened(_effective(base, folder), policy)
    return policy


def _check_tightened(base: Policy, policy: Policy) -> None:
    """Refuse a profile that lets more leave, or a job ask for more, than the one that it extends."""
    changes = diff_of_what_leaves(base, policy, today=date.min)  # nothing has expired then
    if loosened := [change for change in changes if change.effect == "loosened"]:
        raise PolicyFileError(
            f"profile {policy.profile.name!r} extends {base.profile.name!r} and loosens it: {loosened[0]}",
            hint="a profile that extends another can only tighten what may leave",
        )


def _effective(profile: Profile, folder: Path) -> Policy:
    operators: dict[str, OperatorRules] = {}
    for stem in profile.operators:
        rules = read_file(folder / "operators" / f"{stem}.toml", OperatorRules)
        below = operators.get(rules.format)
        operators[rules.format] = _composed(below, rules, stem) if below else rules
    plugins = {name: _read_plugin(folder / "plugins", name) for name in profile.plugins}
    return make_policy(profile, operators, plugins, read_filter(profile.seccomp, folder=folder))


def read_filter(name: str, *, folder: Path = FOLDER) -> str:
    """Return a system call filter as the engine takes it.

    Raises:
        PolicyFileError: There is none, or it is malformed.
    """
    return canonical_json(_read_json(folder / "seccomp" / f"{name}.json"))


def _composed(first: OperatorRules, second: OperatorRules, stem: str) -> OperatorRules:
    """Put two rule sets for one format together. They may not contradict each other, nor share a rule's id."""
    document = first.model_dump(by_alias=True) | {"rule": [r.model_dump() for r in (*first.rule, *second.rule)]}
    return _check(document, OperatorRules, f"{stem}.toml, with the rule sets before it")


def _read_plugin(folder: Path, name: str) -> PluginRule:
    rule = read_file(folder / f"{name}.toml", PluginRule)
    if rule.name != name:
        raise PolicyFileError(f"plugin file {name}.toml names itself {rule.name!r}")
    return rule


def make_policy(
    profile: Profile, operators: dict[str, OperatorRules], plugins: dict[str, PluginRule], seccomp_text: str
) -> Policy:
    """Put an effective policy together and give it its digest.

    Raises:
        PolicyFileError: Two plugins have the same bytes, id or operator, or an id is a rule's.
    """
    _check_apart(operators, plugins)
    parts: list[object] = [profile.model_dump(mode="json", by_alias=True), seccomp_text]
    parts += [operators[f].model_dump(mode="json", by_alias=True) for f in sorted(operators)]
    parts += [plugins[name].model_dump(mode="json", by_alias=True) for name in sorted(plugins)]
    return Policy(
        profile=profile,
        operators=operators,
        plugins=plugins,
        seccomp_text=seccomp_text,
        seccomp_sha256=hashlib.sha256(seccomp_text.encode()).hexdigest(),
        digest=hashlib.sha256(canonical_json(parts).encode()).hexdigest(),
    )


def parse_policy(document: object) -> Policy:
    """Return the policy that a record holds, from its `Policy.to_wire`.

    Raises:
        PolicyFileError: It is malformed.
    """
    if not isinstance(document, dict) or set(document) != {"profile", "operators", "plugins", "seccomp"}:
        raise PolicyFileError("a recorded policy has profile, operators, plugins and seccomp")
    operators, plugins, seccomp = document["operators"], document["plugins"], document["seccomp"]
    if not isinstance(operators, dict) or not isinstance(plugins, dict) or not isinstance(seccomp, str):
        raise PolicyFileError("a recorded policy has operators by format, plugins by name, and seccomp as text")
    rules = {form: _check(rules, OperatorRules, f"operators of {form}") for form, rules in operators.items()}
    libraries = {name: _check(rule, PluginRule, f"plugin {name}") for name, rule in plugins.items()}
    return make_policy(_check(document["profile"], Profile, "profile"), rules, libraries, seccomp)


def _check_apart(operators: dict[str, OperatorRules], plugins: dict[str, PluginRule]) -> None:
    seen: set[str] = {rule.id for rules in operators.values() for rule in rules.rule}
    for plugin in plugins.values():
        for key in (plugin.id, plugin.sha256, *(f"{plugin.runtime} {label}" for label in plugin.operators)):
            if key in seen:
                raise PolicyFileError(f"plugin {plugin.name!r} has what a rule or another plugin has already: {key}")
            seen.add(key)


def _read_profile(folder: Path, name: str) -> tuple[Profile, Profile | None]:
    """Read a profile, and the one that it extends: what it does not say, that one says."""
    own = _parse(folder / f"{name}.toml")
    if (base := own.pop("extends", None)) is None:
        return _named(_check(own, Profile, f"{name}.toml"), name), None
    if base == name or base not in {p.stem for p in folder.glob("*.toml")}:
        raise PolicyFileError(f"profile {name!r} extends a profile that there is not: {base!r}")
    if stray := sorted(set(own) - _EXTENDING_MAY_SAY):
        raise PolicyFileError(
            f"profile {name!r} extends {base!r} and may not change {stray[0]!r}",
            hint=f"it may say: {', '.join(sorted(_EXTENDING_MAY_SAY))}",
        )
    below = _parse(folder / f"{base}.toml")
    if "extends" in below:
        raise PolicyFileError(f"profile {name!r} extends {base!r}, which extends another itself")
    merged = below | {key: _merged(below.get(key), value) for key, value in own.items()}
    return _named(_check(merged, Profile, f"{name}.toml"), name), _check(below, Profile, f"{base}.toml")


def _merged(below: object, own: object) -> object:
    """A table of a profile that extends another changes the fields that it names; all else is replaced."""
    return {**below, **own} if isinstance(below, dict) and isinstance(own, dict) else own


def _named(profile: Profile, name: str) -> Profile:
    if profile.name != name:
        raise PolicyFileError(f"profile file {name}.toml names itself {profile.name!r}")
    return profile


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def read_file(path: Path, model: type[_Model]) -> _Model:
    """Read a TOML file of the policy into a strict model.

    Raises:
        PolicyFileError: It is missing or malformed.
    """
    return _check(_parse(path), model, path.name)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise PolicyFileError(f"cannot read policy file {path.name}: {err.strerror}") from err
    except tomllib.TOMLDecodeError as err:
        raise PolicyFileError(f"policy file is malformed: {path.name}: {err}") from err


def _check(document: object, model: type[_Model], name: str) -> _Model:
    try:
        return model.model_validate(document)
    except ValidationError as err:
        raise PolicyFileError(f"policy file is malformed: {name}: {err}") from err


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise PolicyFileError(f"cannot read policy file {path.name}: {err}") from err
