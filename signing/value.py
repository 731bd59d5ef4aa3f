"""Frozen, slotted, keyword-only values, as `dataclasses` makes them, for what `verify` imports.

Importing `dataclasses` and having it write code for two dozen classes took a third of the CPU time of verifying a whole
release (35 of 105 ms, measured 2026-11-24). Type checkers take these for dataclasses (PEP 681).
"""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, dataclass_transform

AnyValue = TypeVar("AnyValue", bound="Value")


@dataclass_transform(frozen_default=True, kw_only_default=True)
class _ValueType(type):
    """Makes a slot of each annotated field, and keeps the defaults beside."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> "_ValueType":
        fields = tuple(namespace.get("__annotations__", ()))
        defaults = {field: namespace.pop(field) for field in fields if field in namespace}
        slots = (*fields, *namespace.pop("_hidden", ()))
        namespace |= {"__slots__": slots, "_fields": fields, "_names": frozenset(fields), "_defaults": defaults}
        return super().__new__(mcs, name, bases, namespace)


class Value(metaclass=_ValueType):
    """Base of values. A subclass annotates its fields, and may refuse in `__post_init__`.

    What follows from the fields and is costly may be kept in slots that it names in `_hidden`, by `kept`.
    """

    def __init__(self, **values: Any) -> None:
        kind: Any = type(self)
        if len(values) < len(kind._fields):
            values = kind._defaults | values
        if values.keys() != kind._names:
            raise TypeError(f"{kind.__name__} takes exactly {sorted(kind._names)}, not {sorted(values)}")
        put = object.__setattr__
        for name, value in values.items():
            put(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Raise `ValueError` where the fields make no sense together."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _content(self) == _content(other)

    def __hash__(self) -> int:
        return hash((type(self), *_content(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in _content(self).items())})"


def kept(value: Value, slot: str, make: Callable[[], bytes]) -> bytes:
    """Return what a hidden slot keeps; made at first use."""
    try:
        found: bytes = getattr(value, slot)
    except AttributeError:
        found = make()
        object.__setattr__(value, slot, found)
    return found


def replaced(value: AnyValue, **changes: Any) -> AnyValue:
    """Return a value with some fields changed."""
    return type(value)(**_content(value) | changes)


def _content(value: Value) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value)._fields}  # type: ignore[attr-defined]
