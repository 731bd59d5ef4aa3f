"""What the inspecting containers reported, parsed strictly into the policy's types.

The workers in them are trusted code, but they read hostile files: their word is parsed like anybody else's, and a
report that does not fit is the host's fault, which releases nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from executor.errors import HostError
from policy.inspection import (
    ArtifactInventory,
    ModelReplay,
    OperatorUse,
    PluginInventory,
    ReplayCase,
    StructuralFinding,
)

_Text = Annotated[str, Field(max_length=2000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Operator(_Strict):
    namespace: _Text
    name: _Text
    count: int = Field(ge=1)
    places: list[_Text]


class _Finding(_Strict):
    id: _Text
    place: _Text
    detail: _Text


class _Inventory(_Strict):
    format: _Text
    facts: dict[str, Any]
    operators: list[_Operator]
    findings: list[_Finding]


class _Inventories(_Strict):
    artifacts: dict[str, _Inventory]
    plugins: dict[str, _Inventory]
    environment: dict[str, _Text]


class _Case(_Strict):
    case: _Text
    shape: list[int]
    max_abs: float
    allowed: float
    argmax_agreement: float


class _Model(_Strict):
    error: _Text = ""
    cases: list[_Case] = Field(default_factory=list)
    operators: list[_Text] = Field(default_factory=list)
    registered: list[_Text] = Field(default_factory=list)


class _Replays(_Strict):
    models: dict[str, _Model]
    atol: float
    rtol: float
    environment: dict[str, _Text]


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
    wire: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replays:
    """The replays of all models.

    Attributes:
        models: As policy types.
        tolerance: (atol, rtol).
        environment: What the image says of its runtimes.
        wire: As they are recorded.
    """

    models: tuple[ModelReplay, ...]
    tolerance: tuple[float, float]
    environment: Mapping[str, str]
    wire: Mapping[str, Any]


class Described(Protocol):
    """An artifact, as far as a decision needs it."""

    @property
    def name(self) -> str:
        """Its declared name."""

    @property
    def role(self) -> str:
        """Its declared role."""


def parse_inventories(
    result: Mapping[str, Any], artifacts: Sequence[Described], plugins: Sequence[str] = ()
) -> Inventories:
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


def parse_replays(result: Mapping[str, Any], models: Sequence[str]) -> Replays:
    """Parse the replay worker's result.

    Raises:
        HostError: It does not fit, or does not cover exactly the models.
    """
    try:
        report = _Replays.model_validate(dict(result))
    except ValidationError as err:
        raise HostError("the replay's report does not fit its schema") from err
    if set(report.models) != set(models):
        raise HostError("the replay did not report on every model")
    found = tuple(
        ModelReplay(
            name=name,
            error=model.error,
            cases=tuple(
                ReplayCase(case=c.case, max_abs=c.max_abs, allowed=c.allowed, argmax_agreement=c.argmax_agreement)
                for c in model.cases
            ),
            operators=tuple(model.operators),
            registered=tuple(model.registered),
        )
        for name, model in sorted(report.models.items())
    )
    return Replays(
        models=found,
        tolerance=(report.atol, report.rtol),
        environment=report.environment,
        wire=report.model_dump(),
    )


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
