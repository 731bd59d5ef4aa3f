"""The inventory: what artifacts and plugins hold, without loading anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field, ValidationError

from executor.errors import HostError
from executor.inspection.interface import REASON_CHARACTERS_MAX, Described, Report, Strict, Text
from policy.inspection import ArtifactInventory, OperatorUse, PluginInventory, StructuralFinding


class _Operator(Strict):
    namespace: Text
    name: Text
    count: int = Field(ge=1)
    places: list[Text]


class _Finding(Strict):
    id: Text
    place: Text
    detail: Text


class _Inventory(Strict):
    format: Text
    facts: dict[str, Any]
    operators: list[_Operator]
    findings: list[_Finding]


class _Inventories(Strict):
    artifacts: dict[str, _Inventory]
    plugins: dict[str, _Inventory]
    environment: dict[str, Text]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventories:
    """The static inventories of all artifacts.

    Attributes:
        artifacts: As policy types.
        plugins: The libraries of custom operators that the job names, as policy types.
        environment: What the image says of itself without loading anything.
        wire: As they are recorded.
    """

    artifacts: tuple[ArtifactInventory, ...]
    plugins: tuple[PluginInventory, ...]
    environment: Mapping[str, str]
    wire: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The inspection.

    Attributes:
        artifacts: The artifacts.
        plugins: The names of the libraries of custom operators that the job names.
    """

    kind: ClassVar[str] = "inventory"
    artifacts: Sequence[Described]
    plugins: Sequence[str] = ()

    def params(self) -> Mapping[str, object]:
        """Return what the worker is told beside the files."""
        return {}

    def parse(self, report: Report) -> Inventories:
        """Parse the worker's report."""
        return parse_inventories(report, self.artifacts, self.plugins)

    def died(self, reason: str) -> Report:
        """Return a report that denies every artifact and plugin."""
        finding = {"id": "INVENTORY-FAILED", "place": "file", "detail": reason[:REASON_CHARACTERS_MAX]}
        report = {"format": "unknown", "facts": {}, "operators": [], "findings": [finding]}
        return {
            "artifacts": dict.fromkeys((a.name for a in self.artifacts), report),
            "plugins": dict.fromkeys(self.plugins, report),
            "environment": {},
        }


def parse_inventories(result: Report, artifacts: Sequence[Described], plugins: Sequence[str] = ()) -> Inventories:
    """Parse the inventory worker's result.

    Raises:
        HostError: It does not fit, or does not cover exactly the artifacts and the plugins.
    """
    try:
        report = _Inventories.model_validate(dict(result))
    except ValidationError as err:
        raise HostError("the inventory's report does not fit its schema") from err
    if set(report.artifacts) != {a.name for a in artifacts}:
        raise HostError("the inventory did not report on every artifact")
    if set(report.plugins) != set(plugins):
        raise HostError("the inventory did not report on every plugin")
    found = tuple(_to_policy(a, report.artifacts[a.name]) for a in artifacts)
    libraries = tuple(_plugin_to_policy(name, report.plugins[name]) for name in sorted(plugins))
    return Inventories(artifacts=found, plugins=libraries, environment=report.environment, wire=report.model_dump())


def _to_policy(artifact: Described, inventory: _Inventory) -> ArtifactInventory:
    facts = inventory.facts
    imports = facts.get("opset_imports")
    ir_version, opset = facts.get("ir_version"), imports.get("") if isinstance(imports, dict) else None
    return ArtifactInventory(
        name=artifact.name,
        role=artifact.role,
        format=inventory.format,
        operators=tuple(
            OperatorUse(namespace=o.namespace, name=o.name, count=o.count, places=tuple(o.places))
            for o in inventory.operators
        ),
        findings=tuple(StructuralFinding(id=f.id, place=f.place, detail=f.detail) for f in inventory.findings),
        ir_version=ir_version if isinstance(ir_version, int) else None,
        opset=opset if isinstance(opset, int) else None,
        domains=tuple(sorted(d for d in imports if d)) if isinstance(imports, dict) else (),
    )


def _plugin_to_policy(name: str, inventory: _Inventory) -> PluginInventory:
    facts = inventory.facts
    needed = facts.get("needed")
    return PluginInventory(
        name=name,
        soname=str(facts.get("soname", "")),
        needed=tuple(str(n) for n in needed) if isinstance(needed, list) else (),
        abi=str(facts.get("abi", inventory.format)),
        findings=tuple(StructuralFinding(id=f.id, place=f.place, detail=f.detail) for f in inventory.findings),
    )
