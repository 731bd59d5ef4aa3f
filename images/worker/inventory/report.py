"""The form of an inventory, and its bounds: a hostile artifact makes it neither large nor deep."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_PLACES_MAX = 8
_FINDINGS_MAX = 200
_NAME_LENGTH_MAX = 200
_OPERATORS_MAX = 1_000
FACTS_MAX = 1_000

Data = bytes | memoryview  # of a whole artifact: mapped, not read


@dataclass(slots=True)
class Inventory:
    """What one artifact holds, gathered while reading it.

    Attributes:
        format: as `sniff` names it.
        facts: Format-specific plain values, such as the ONNX opset imports.
    """

    format: str
    facts: dict[str, Any] = field(default_factory=dict)
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _places: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _findings: list[dict[str, str]] = field(default_factory=list)

    def use(self, namespace: str, name: str, place: str) -> None:
        """Count one use of an operator. A name that none can have is cut, and the cut is a finding."""
        if len(self._counts) >= _OPERATORS_MAX and (namespace, name) not in self._counts:
            self.find("OPERATOR-COUNT", place, f"more than {_OPERATORS_MAX} different operators")
            return
        plain = (_plain(namespace), _plain(name))
        if plain != (namespace, name):
            self.find("OPERATOR-NAME", place, f"an operator's name is longer than {_NAME_LENGTH_MAX}, or not text")
        self._counts[plain] += 1
        places = self._places.setdefault(plain, [])
        if len(places) < _PLACES_MAX:
            places.append(_plain(place))

    def find(self, finding: str, place: str, detail: str) -> None:
        """Add a finding that no operator name expresses."""
        if len(self._findings) < _FINDINGS_MAX:
            self._findings.append({"id": finding, "place": _plain(place), "detail": _plain(detail)})

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form."""
        operators = [
            {"namespace": key[0], "name": key[1], "count": count, "places": self._places[key]}
            for key, count in sorted(self._counts.items())
        ]
        return {"format": self.format, "facts": self.facts, "operators": operators, "findings": self._findings}


def _plain(text: str) -> str:
    """Return text of bounded length that is Unicode: a lone surrogate is spelt out."""
    return text[:_NAME_LENGTH_MAX].encode(errors="backslashreplace").decode()[: 2 * _NAME_LENGTH_MAX]
