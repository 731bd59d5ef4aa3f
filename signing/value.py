"""Frozen, slotted, keyword-only values, as `dataclasses` makes them, for what `verify` imports.

Importing `dataclasses` and having it write code for two dozen classes took a third of the CPU time of verifying a whole
release (35 of 105 ms, measured 2026-11-24). Type checkers take these for dataclasses (PEP 681).
"""

from typing import Any, NoReturn, TypeVar, dataclass_transform

AnyValue = TypeVar("AnyValue", bound="Value")


@dataclass_transform(frozen_default=True, kw_only_default=True)
class _ValueType(type):
    """Makes a slot of each annotated field, and keeps the defaults beside."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> "_ValueType":
        fields = tuple(namespace.get("__annotations__", ()))
        defaults = {field: namespace.pop(field) for field in fields if field in namespace}
        namespace |= {"__slots__": fields, "_fields": fields, "_defaults": defaults}
        return super().__new__(mcs, name, bases, namespace)


class Value(metaclass=_ValueType):
    """Base of values. A subclass annotates its fields, and may refuse in `__post_init__`."""

    def __init__(self, **values: Any) -> None:
        fields: tuple[str, ...] = type(self)._fields  # type: ignore[attr-defined]
        filled = type(self)._defaults | values  # type: ignore[attr-defined]
        if filled.keys() != set(fields):
            wrong = sorted(filled.keys() ^ set(fields))
            raise TypeError(f"{type(self).__name__} takes exactly the fields {', '.join(fields)}: {wrong}")
        for name in fields:
            object.__setattr__(self, name, filled[name])
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


def replaced(value: AnyValue, **changes: Any) -> AnyValue:
    """Return a value with some fields changed."""
    return type(value)(**_content(value) | changes)


def _content(value: Value) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value)._fields}  # type: ignore[attr-defined]
