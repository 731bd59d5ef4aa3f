"""Strict shapes of JSON documents: every field named, every value of one kind, nothing else.

A shape is a `str` such as "text", a regular expression, a one-element list (a list of that shape), `Fields`, `OneOf`,
`MapOf`, `Maybe`, or a function that returns what is wrong. A document is walked with a callback for each text, so that
what a text means (an operator, an expression) is looked at in the same pass.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Shape = Any
_DEPTH_MAX = 32
_INTEGER_MAX = 1 << 63


@dataclass(frozen=True, slots=True)
class Fields:
    """An object with exactly these fields; those in `optional` may be absent."""

    fields: Mapping[str, Shape]
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class OneOf:
    """An object with exactly one of these fields: a tagged union."""

    choices: Mapping[str, Shape]


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object whose keys are free within a pattern."""

    key: re.Pattern[str]
    value: Shape


@dataclass(frozen=True, slots=True)
class Maybe:
    """The shape, or null."""

    shape: Shape


def misfits(value: Any, shape: Shape, place: str = "$", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield place and description of everything in a document that its shape does not foresee."""
    if depth > _DEPTH_MAX:
        yield place, f"nested deeper than {_DEPTH_MAX}"
    elif isinstance(shape, Maybe):
        if value is not None:
            yield from misfits(value, shape.shape, place, depth)
    elif isinstance(shape, Fields | OneOf | MapOf):
        yield from _object_misfits(value, shape, place, depth)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield place, "not a list"
            return
        for index, item in enumerate(value):
            yield from misfits(item, shape[0], f"{place}[{index}]", depth + 1)
    elif callable(shape):
        if wrong := shape(value):
            yield place, wrong
    elif isinstance(shape, re.Pattern):
        if not isinstance(value, str) or not shape.fullmatch(value):
            yield place, f"text that is not foreseen: {str(value)[:80]!r}"
    elif not _SCALARS[shape](value):
        yield place, f"not {shape}: {str(value)[:80]!r}"


def _object_misfits(value: Any, shape: Fields | OneOf | MapOf, place: str, depth: int) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        yield place, "not an object"
        return
    if isinstance(shape, OneOf) and len(value) != 1:
        yield place, "not exactly one of its kinds"
        return
    if isinstance(shape, Fields) and (missing := shape.fields.keys() - value.keys() - shape.optional):
        yield place, f"without the field {min(missing)}"
    for name, item in value.items():
        if isinstance(shape, MapOf):
            inside = shape.value if shape.key.fullmatch(name) else None
        else:
            inside = (shape.fields if isinstance(shape, Fields) else shape.choices).get(name)
        if inside is None:
            yield f"{place}.{name[:80]}", "a field that is not foreseen"
        else:
            yield from misfits(item, inside, f"{place}.{name[:80]}", depth + 1)


def _is_integer(value: Any) -> bool:
    return type(value) is int and -_INTEGER_MAX <= value < _INTEGER_MAX


_SCALARS: Mapping[str, Callable[[Any], bool]] = {
    "an integer": _is_integer,
    "a number": lambda value: type(value) in (int, float) or value in ("Infinity", "-Infinity", "NaN"),
    "true or false": lambda value: type(value) is bool,
    "true": lambda value: value is True,
    "false": lambda value: value is False,
    "empty": lambda value: value in ([], {}, ""),
}
