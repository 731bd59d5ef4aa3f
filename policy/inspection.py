"""What a decision is made from: the inventories and replays that the clean containers reported, as frozen values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorUse:
    """An operator that an artifact uses: its namespace (the domain, in ONNX), name, how often, and where."""

    namespace: str
    name: str
    count: int
    places: tuple[str, ...]

    @property
    def label(self) -> str:
        """`namespace::name`, with the standard ONNX domain spelt out."""
        return f"{self.namespace or 'ai.onnx'}::{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StructuralFinding:
    """Something that no operator name expresses, as the inventory reported it."""

    id: str
    place: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactInventory:
    """One artifact as the static inventory saw it.

    Attributes:
        name: Its name in the release.
        role: Its declared role.
        format: Recognised by content.
        operators: Every operator that it can reach.
        findings: Structural findings.
        ir_version: ONNX only.
        opset: Version of the standard ONNX domain, or None.
        domains: Further domains that an ONNX model imports.
    """

    name: str
    role: str
    format: str
    operators: tuple[OperatorUse, ...]
    findings: tuple[StructuralFinding, ...]
    ir_version: int | None = None
    opset: int | None = None
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInventory:
    """A library of custom operators as the static inventory saw it, under the name of the policy's plugin.

    Attributes:
        name: The plugin's name in the policy.
        soname: Its own name.
        needed: The libraries that it needs.
        abi: `onnxruntime`, `torch-stable`, `torch-minor`, or what it is instead.
        findings: Structural findings.
    """

    name: str
    soname: str
    needed: tuple[str, ...]
    abi: str
    findings: tuple[StructuralFinding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCase:
    """One test vector on one model.

    Attributes:
        case: Its name.
        max_abs: Largest absolute difference.
        allowed: What the tolerance allows.
        argmax_agreement: Share of rows with the same largest column, 0 to 1.
    """

    case: str
    max_abs: float
    allowed: float
    argmax_agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReplay:
    """One model as its real runtime saw it.

    Attributes:
        name: Its name in the release.
        error: Empty where it loaded and ran.
        cases: What it gave on each test vector.
        operators: What the loaded graph calls.
        registered: What the runtime's registry had gained once the plugins and the model were loaded.
    """

    name: str
    error: str
    cases: tuple[ReplayCase, ...]
    operators: tuple[str, ...]
    registered: tuple[str, ...] = ()
