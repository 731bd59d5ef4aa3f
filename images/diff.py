"""What changed between two locks, for a reviewer. Pure.

Loudest is a version that kept its name and changed its bytes: no honest upgrade looks like that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from images.lock import ImageLock, LockedInput

SCHEMA = "executor.image-diff/v1"


class Kind(Enum):
    """What happened to an input; the order is that of the report."""

    SUBSTITUTED = "same version, other hash"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputChange:
    """One input that is not what it was; `old` or `new` is None where it came or went."""

    kind: Kind
    old: LockedInput | None
    new: LockedInput | None

    @property
    def item(self) -> LockedInput:
        """The input as it is, or as it was."""
        found = self.new or self.old
        assert found is not None, "a change has a side"
        return found

    @property
    def size_delta(self) -> int:
        """Bytes that the package grew by."""
        return (self.new.size if self.new else 0) - (self.old.size if self.old else 0)

    @property
    def security(self) -> bool:
        """Whether a Debian package now comes from a security suite."""
        return self.new is not None and self.new.suite.endswith("-security")

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "change": self.kind.name.lower(),
            "kind": self.item.kind,
            "name": self.item.name,
            "old": _side(self.old),
            "new": _side(self.new),
            "size_delta": self.size_delta,
            "security": self.security,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LockDiff:
    """All that differs.

    Attributes:
        inputs: Substitutions first, then by kind and name.
        recipe: Fields of the recipe: old and new value. `name`, `roots` and `signers` count among them.
        layers: Of each layer its name, and `kept`, `changed`, `added` or `removed`, in the new order.
        image_ids: Old and new image ID.
    """

    inputs: tuple[InputChange, ...]
    recipe: Mapping[str, tuple[Any, Any]]
    layers: tuple[tuple[str, str], ...]
    image_ids: tuple[str, str]

    @property
    def substituted(self) -> tuple[InputChange, ...]:
        """Packages whose version kept its name and changed its bytes."""
        return tuple(c for c in self.inputs if c.kind is Kind.SUBSTITUTED)

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.inputs and not self.recipe and self.image_ids[0] == self.image_ids[1]

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "schema": SCHEMA,
            "same": self.same,
            "substituted": len(self.substituted),
            "inputs": [c.to_wire() for c in self.inputs],
            "recipe": {name: {"old": old, "new": new} for name, (old, new) in self.recipe.items()},
            "layers": [{"name": name, "change": change} for name, change in self.layers],
            "image_id": {"old": self.image_ids[0], "new": self.image_ids[1]},
        }


def diff_locks(old: ImageLock, new: ImageLock) -> LockDiff:
    """Compare two locks."""
    before, after = ({(i.kind, i.name): i for i in lock.inputs} for lock in (old, new))
    changes = [
        change
        for key in sorted(before.keys() | after.keys())
        if (change := _input_change(before.get(key), after.get(key))) is not None
    ]
    return LockDiff(
        inputs=tuple(sorted(changes, key=lambda c: c.kind is not Kind.SUBSTITUTED)),
        recipe=_recipe_changes(old, new),
        layers=tuple(_layer_changes(old, new)),
        image_ids=(old.expect.image_id, new.expect.image_id),
    )


def _input_change(old: LockedInput | None, new: LockedInput | None) -> InputChange | None:
    if old is None:
        return InputChange(kind=Kind.ADDED, old=None, new=new)
    if new is None:
        return InputChange(kind=Kind.REMOVED, old=old, new=None)
    if old.sha256 == new.sha256:
        return None
    same_version = old.version == new.version and old.kind != "source"
    return InputChange(kind=Kind.SUBSTITUTED if same_version else Kind.CHANGED, old=old, new=new)


def _recipe_changes(old: ImageLock, new: ImageLock) -> dict[str, tuple[Any, Any]]:
    pairs = {
        "name": (old.name, new.name),
        "roots.debs": (list(old.roots.debs), list(new.roots.debs)),
        "roots.wheels": (list(old.roots.wheels), list(new.roots.wheels)),
        "signers": (_signers(old), _signers(new)),
    }
    wires = old.recipe.to_wire(), new.recipe.to_wire()
    pairs |= {name: (wires[0][name], wires[1][name]) for name in wires[0]}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _signers(lock: ImageLock) -> list[str]:
    return sorted({s for index in lock.indexes for s in index.signers})


def _layer_changes(old: ImageLock, new: ImageLock) -> Sequence[tuple[str, str]]:
    before, after = ({y.name: y.sha256 for y in lock.expect.layers} for lock in (old, new))
    names = [*after, *(n for n in before if n not in after)]
    return [(n, _fate(before.get(n), after.get(n))) for n in names]


def _fate(old: str | None, new: str | None) -> str:
    if old is None:
        return "added"
    if new is None:
        return "removed"
    return "kept" if old == new else "changed"


def _side(item: LockedInput | None) -> dict[str, Any] | None:
    return {"version": item.version, "sha256": item.sha256, "size": item.size} if item else None
