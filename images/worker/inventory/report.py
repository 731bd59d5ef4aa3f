"""The form of an inventory."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_PLACES_MAX = 8
_FINDINGS_MAX = 200
_NAME_LENGTH_MAX = 200


@dataclass(slots=True)
class Inventory:
    """What one artifact holds, gathered while reading it.

    Attributes:
        format: `onnx`, `torchscript`, `npz`, `json`, `text` or `unknown`.
        facts: Format-specific plain values, such as the ONNX opset imports.
    """

    format: str
    facts: dict[str, Any] = field(default_factory=dict)
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _places: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _findings: list[dict[str, str]] = field(default_factory=list)

    def use(self, namespace: str, name: str, place: str) -> None:
        """Count one use of an operator. A name too long to be one is cut, and the cut is a finding."""
        if max(len(namespace), len(name)) > _NAME_LENGTH_MAX:
            namespace, name = namespace[:_NAME_LENGTH_MAX], name[:_NAME_LENGTH_MAX]
            self.find("OPERATOR-NAME-LENGTH", place, f"an operator's name is longer than {_NAME_LENGTH_MAX}")
        key = (namespace, name)
        self._counts[key] += 1
        places = self._places.setdefault(key, [])
        if len(places) < _PLACES_MAX:
            places.append(place[:200])

    def find(self, finding: str, place: str, detail: str) -> None:
        """Add a finding that no operator name expresses."""
        if len(self._findings) < _FINDINGS_MAX:
            self._findings.append({"id": finding, "place": place[:200], "detail": detail[:300]})

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form."""
        operators = [
            {"namespace": key[0], "name": key[1], "count": count, "places": self._places[key]}
            for key, count in sorted(self._counts.items())
        ]
        return {"format": self.format, "facts": self.facts, "operators": operators, "findings": self._findings}
