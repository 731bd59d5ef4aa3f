"""The inventory: what it asks, how its report is read, and what its death means."""

from dataclasses import dataclass
from typing import Any

import pytest

from executor.errors import HostError
from executor.inspection.inventory import Inventory


@dataclass(frozen=True)
class Artifact:
    name: str
    role: str = "model"


INVENTORY = Inventory(artifacts=(Artifact("a"), Artifact("b", "data")), plugins=("p",))
PART = {"format": "onnx", "facts": {"ir_version": 10}, "operators": [], "findings": []}
REPORT = {"artifacts": {"a": PART, "b": PART}, "plugins": {"p": PART}, "environment": {"python": "3.11"}}


def test_a_report_becomes_what_the_policy_decides_on() -> None:
    found = INVENTORY.parse(REPORT)
    assert [(a.name, a.role, a.format, a.ir_version) for a in found.artifacts] == [
        ("a", "model", "onnx", 10),
        ("b", "data", "onnx", 10),
    ]
    assert [p.name for p in found.plugins] == ["p"]
    assert INVENTORY.params() == {}


@pytest.mark.parametrize(
    "change",
    [
        {"artifacts": {"a": PART}},
        {"artifacts": {"a": PART, "b": PART, "c": PART}},
        {"plugins": {}},
        {"environment": {"python": 3}},
        {"artifacts": {"a": PART, "b": PART | {"more": 1}}},
    ],
)
def test_a_report_that_does_not_fit_is_the_hosts_fault(change: dict[str, Any]) -> None:
    with pytest.raises(HostError):
        INVENTORY.parse(REPORT | change)


def test_where_its_container_died_everything_that_it_read_has_a_finding() -> None:
    found = INVENTORY.parse(INVENTORY.died("killed for memory" * 100))
    assert {a.name: [f.id for f in a.findings] for a in found.artifacts} == {
        "a": ["INVENTORY-FAILED"],
        "b": ["INVENTORY-FAILED"],
    }
    assert [f.id for f in found.plugins[0].findings] == ["INVENTORY-FAILED"]
    assert len(found.artifacts[0].findings[0].detail) == 300
