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
from policy.model import OperatorRules, Policy, Profile

_Model = TypeVar("_Model", bound=BaseModel)
FOLDER = Path(__file__).parent
# Where a job runs is a profile's own to say, but for the network; what may leave can only be tightened.
_EXTENDING_MAY_SAY = frozenset(set(Profile.model_fields) - {"schema_", "network", "egress"} | {"schema"})


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
    operators = {}
    for stem in profile.operators:
        rules = read_file(folder / "operators" / f"{stem}.toml", OperatorRules)
        if rules.format in operators:
            raise PolicyFileError(
                f"two operator files are for format {rules.format!r}: the second is {stem}.toml",
                hint="put their rules into one file, so that they cannot contradict each other unseen",
            )
        operators[rules.format] = rules
    seccomp = canonical_json(_read_json(folder / "seccomp" / f"{profile.seccomp}.json"))
    return make_policy(profile, operators, seccomp)


def make_policy(profile: Profile, operators: dict[str, OperatorRules], seccomp_text: str) -> Policy:
    """Put an effective policy together and give it its digest."""
    parts = [profile.model_dump(mode="json", by_alias=True), seccomp_text]
    parts += [operators[f].model_dump(mode="json", by_alias=True) for f in sorted(operators)]
    return Policy(
        profile=profile,
        operators=operators,
        seccomp_text=seccomp_text,
        seccomp_sha256=hashlib.sha256(seccomp_text.encode()).hexdigest(),
        digest=hashlib.sha256(canonical_json(parts).encode()).hexdigest(),
    )


def parse_policy(document: object) -> Policy:
    """Return the policy that a record holds, from its `Policy.to_wire`.

    Raises:
        PolicyFileError: It is malformed.
    """
    if not isinstance(document, dict) or set(document) != {"profile", "operators", "seccomp"}:
        raise PolicyFileError("a recorded policy has profile, operators and seccomp")
    operators, seccomp = document["operators"], document["seccomp"]
    if not isinstance(operators, dict) or not isinstance(seccomp, str):
        raise PolicyFileError("a recorded policy has operators by format, and seccomp as text")
    rules = {form: _check(rules, OperatorRules, f"operators of {form}") for form, rules in operators.items()}
    return make_policy(_check(document["profile"], Profile, "profile"), rules, seccomp)


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
        return tomllib.loads(path.read_text())
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
        return json.loads(path.read_text())
    except (OSError, ValueError) as err:
        raise PolicyFileError(f"cannot read policy file {path.name}: {err}") from err
