"""Why a package is in an image: who requires it, read from the packages themselves. Pure.

Debian: Policy chapter 7 (Depends, Pre-Depends, Provides). Wheels: `Requires-Dist` of the core metadata with the markers
of PEP 508, evaluated for the image and not for the machine that locks it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from email.parser import HeaderParser

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from images.errors import LockError
from images.lock import ROOT

Why = dict[str, tuple[str, ...]]


def deb_reasons(roots: Sequence[str], fields: Mapping[str, Mapping[str, str]]) -> Why:
    """Return who requires each Debian package.

    Args:
        roots: Packages that were asked for.
        fields: Control fields by package.

    Returns:
        The packages that the roots reach, each with `root` or those that require it. What they do not reach is absent.
    """
    providers = {name: {name} for name in fields}
    for name, control in fields.items():
        for provided in _names(control.get("Provides", "")):
            providers.setdefault(provided, set()).add(name)
    edges = {
        name: {p for r in _deb_requirements(control) for p in providers.get(r, ())} - {name}
        for name, control in fields.items()
    }
    return _reasons(roots, edges)


def wheel_reasons(roots: Sequence[str], metadata: Mapping[str, str], environment: Mapping[str, str]) -> Why:
    """Return who requires each wheel.

    Args:
        roots: Requirements that were asked for.
        metadata: Text of METADATA by normalised name.
        environment: Marker variables of the image (PEP 508).

    Returns:
        The wheels that the roots reach, each with `root` or those that require it.

    Raises:
        LockError: A requirement is not among the wheels.
    """
    parsed = {name: _requirements(text) for name, text in metadata.items()}
    edges: dict[str, set[str]] = {name: set() for name in metadata}
    asked = [parse_requirement(r) for r in roots]
    wanted = [(canonicalize_name(r.name), frozenset(r.extras)) for r in asked]
    seen = set(wanted)
    while wanted:
        name, extras = wanted.pop()
        if name not in parsed:
            raise LockError(f"a required wheel was not resolved: {name}")
        for requirement in parsed[name]:
            if not _holds(requirement, extras, environment):
                continue
            child = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            edges[name].add(child[0])
            if child not in seen:
                seen.add(child)
                wanted.append(child)
    return _reasons([canonicalize_name(r.name) for r in asked], edges)


def parse_requirement(text: str) -> Requirement:
    """Parse a requirement of a wheel (PEP 508).

    Raises:
        LockError: It is none.
    """
    try:
        return Requirement(text)
    except InvalidRequirement as err:
        raise LockError(f"not a requirement of a wheel: {text!r}") from err


def marker_environment(python_full: str, machine: str) -> dict[str, str]:
    """Return the marker variables of an image.

    Args:
        python_full: Version of its interpreter, such as `3.11.2`.
        machine: As `uname -m` says it.
    """
    return {
        "implementation_name": "cpython",
        "implementation_version": python_full,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": python_full,
        "python_version": ".".join(python_full.split(".")[:2]),
        "sys_platform": "linux",
    }


def _reasons(roots: Sequence[str], edges: Mapping[str, Iterable[str]]) -> Why:
    reached: set[str] = set()
    wanted = list(roots)
    while wanted:
        name = wanted.pop()
        if name not in reached:
            reached.add(name)
            wanted += [c for c in edges.get(name, ()) if c in edges]
    requirers: dict[str, list[str]] = {name: [ROOT] if name in roots else [] for name in sorted(reached)}
    for name in sorted(reached):
        for child in sorted(edges.get(name, ())):
            if child in requirers and child != name:
                requirers[child].append(name)
    return {name: tuple(who) for name, who in requirers.items()}


def _deb_requirements(control: Mapping[str, str]) -> list[str]:
    return [n for field in ("Depends", "Pre-Depends") for n in _names(control.get(field, ""))]


def _names(field: str) -> list[str]:
    """Names in a relationship field, alternatives included, without versions and architectures."""
    return [m.group(1) for part in re.split(r"[,|]", field) if (m := re.match(r"\s*([a-z0-9][a-z0-9+.-]*)", part))]


def _requirements(metadata: str) -> list[Requirement]:
    return [parse_requirement(value) for value in HeaderParser().parsestr(metadata).get_all("Requires-Dist", [])]


def _holds(requirement: Requirement, extras: frozenset[str], environment: Mapping[str, str]) -> bool:
    marker = requirement.marker
    if marker is None:
        return True
    return any(marker.evaluate({**environment, "extra": extra}) for extra in ("", *sorted(extras)))
