"""The policy's files as frozen types: operator rules, plugins and profiles. Strict: an unknown field is refused."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from policy.egress import address_fault

RuleID = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]*(-[A-Z0-9]+)+$")]
OperatorName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,120}$")]
Namespace = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{0,120}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
# At least two labels, the last one no number (RFC 1123, 2.1): neither an address nor `localhost` is such a name.
HostName = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", max_length=253
    ),
]
EGRESS_RULES_MAX = 64
WAIVER_DAYS_MAX = 90
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
LibraryName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,120}$")]
# `namespace::name` for ONNX, `namespace::name.overload` for torch, as its registry spells them.
PluginOperator = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,80}::[A-Za-z_][A-Za-z0-9_.]{0,120}$")
]
# Namespaces of the runtimes themselves: a plugin that registers in one would change what reviewed names mean.
_RUNTIMES_OWN = frozenset({"ai.onnx", "ai.onnx.ml", "com.microsoft", "aten", "prim", "prims", "quantized", "_operator"})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Case = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_.:-]{1,120}::)?[A-Za-z_][A-Za-z0-9_.]{0,120}$")]


class OperatorRule(_Strict):
    """Allows or denies exact operator names of one namespace. There is no wildcard: a whole namespace is never safe.

    `allows` and `denies` are cases: operators that the policy must allow and deny, or the rule is not what its reviewer
    took it for. Each is `name`, in the rule's own namespace, or `namespace::name`, where `ai.onnx` is ONNX's standard
    one.

    `loader_makes` is for what a runtime makes of the language itself: such an operator may be in the loaded graph
    without being in the file. All others must be in both.
    """

    id: RuleID
    effect: Literal["allow", "deny"]
    namespace: Namespace
    names: tuple[OperatorName, ...] = Field(min_length=1)
    reason: str = Field(min_length=10)
    remedy: str = ""
    reviewer: str = Field(min_length=2)
    reviewed: date
    expires: date | None = None
    loader_makes: bool = False
    allows: tuple[Case, ...] = Field(min_length=1)
    denies: tuple[Case, ...] = Field(min_length=1)

    def case(self, text: str) -> tuple[str, str]:
        """Return namespace and name of a case."""
        namespace, _, name = text.rpartition("::")
        return ("" if namespace == "ai.onnx" else namespace) if namespace else self.namespace, name


class OperatorRules(_Strict):
    """One file under `policy/operators/`."""

    schema_: Literal["executor.policy-operators/v1"] = Field(alias="schema")
    format: Word
    rule: tuple[OperatorRule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _no_contradiction(self) -> "OperatorRules":
        ids = [r.id for r in self.rule]
        if len(set(ids)) != len(ids):
            raise ValueError("a rule id stands twice")
        allowed = {(r.namespace, n) for r in self.rule if r.effect == "allow" for n in r.names}
        denied = {(r.namespace, n) for r in self.rule if r.effect == "deny" for n in r.names}
        if both := sorted(allowed & denied):
            raise ValueError(f"allowed and denied at once: {both[0][0]}::{both[0][1]}")
        return self


class PluginRecipe(_Strict):
    """How a plugin's bytes came about, so that others can build them again.

    Attributes:
        source: Where its sources are.
        commit: Which of them, in hex.
        builder: Digest of the image that built it.
        command: What ran in it.
    """

    source: str = Field(min_length=3)
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
    builder: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    command: str = Field(min_length=3)


class PluginRule(_Strict):
    """One file under `policy/plugins/`: a library of custom operators, allowed by the digest of its bytes alone.

    `soname`, `needed` and `abi` are what `executor policy inventory` says of the library. `operators` is all that it
    registers, no more and no less: it is loaded in the sandbox and the registry compared before and after.

    Attributes:
        abi: `onnxruntime` (its C API), `torch-stable` (torch's C shims, for any torch from `built_against` on), or
            `torch-minor` (torch's C++ symbols: good for one minor version).
    """

    schema_: Literal["executor.policy-plugin/v1"] = Field(alias="schema")
    id: RuleID
    name: Word
    runtime: Literal["onnxruntime", "torch"]
    sha256: Sha256
    size_bytes: int = Field(ge=1)
    soname: LibraryName
    needed: tuple[LibraryName, ...]
    abi: Literal["onnxruntime", "torch-stable", "torch-minor"]
    built_against: dict[Word, Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.+-]{1,40}$")]] = Field(
        min_length=1
    )
    operators: tuple[PluginOperator, ...] = Field(min_length=1)
    recipe: PluginRecipe
    reason: str = Field(min_length=10)
    reviewer: str = Field(min_length=2)
    reviewed: date
    expires: date | None = None
    allows: tuple[PluginOperator, ...] = Field(min_length=1)
    denies: tuple[PluginOperator, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_its_runtime(self) -> "PluginRule":
        if (self.runtime == "torch") != self.abi.startswith("torch-"):
            raise ValueError(f"a plugin for {self.runtime} cannot have the ABI {self.abi}")
        if self.runtime not in self.built_against:
            raise ValueError(f"built_against does not say which {self.runtime}")
        if len(set(self.operators)) != len(self.operators):
            raise ValueError("an operator stands twice")
        for label in self.operators:
            namespace, _, name = label.partition("::")
            if namespace in _RUNTIMES_OWN:
                raise ValueError(f"{namespace} is the runtime's own namespace: {label}")
            if ("." in name) != (self.runtime == "torch"):
                raise ValueError(
                    f"torch's operators have an overload, such as NAME.default, and ONNX's have none: {label}"
                )
        return self

    @property
    def formats(self) -> tuple[str, ...]:
        """The model formats that can use its operators."""
        return ("onnx",) if self.runtime == "onnxruntime" else ("torchscript", "pt2")

    def has(self, form: str, namespace: str, name: str) -> bool:
        """Whether it registers an operator, as a format spells it: TorchScript names no overload."""
        if form not in self.formats:
            return False
        known = {label.rpartition(".")[0] if form == "torchscript" else label for label in self.operators}
        return f"{namespace}::{name}" in known


class Waiver(_Strict):
    """Lets one artifact leave although no rule allows an operator in it. Dated, and counted apart in every decision.

    It names the artifact by digest, so that it cannot become a habit, and ends within 90 days. What a rule denies by
    name, and what is no operator, cannot be waived.
    """

    id: RuleID
    artifact_sha256: Sha256
    format: Word
    namespace: Namespace
    name: OperatorName
    reason: str = Field(min_length=10)
    reviewer: str = Field(min_length=2)
    reviewed: date
    expires: date

    @model_validator(mode="after")
    def _ends_soon(self) -> "Waiver":
        if not self.reviewed <= self.expires <= self.reviewed + timedelta(days=WAIVER_DAYS_MAX):
            raise ValueError(f"a waiver ends within {WAIVER_DAYS_MAX} days of its review")
        return self


class Range(_Strict):
    """An inclusive range."""

    min: int
    max: int


class FormatRule(_Strict):
    """A format that may leave: for which roles, and under which file name endings."""

    format: Word
    roles: tuple[str, ...] = Field(min_length=1)
    suffixes: tuple[str, ...] = Field(min_length=1)


class Ceilings(_Strict):
    """The most that a job of this profile may ask for."""

    cpus: float
    memory_bytes: int
    pids: int
    wall_seconds: float
    idle_seconds: float
    input_bytes: int
    output_bytes: int
    output_file_bytes: int
    output_files: int
    log_bytes: int
    tmp_bytes: int
    tmp_inodes: int


class Replay(_Strict):
    """What a model's replay must show."""

    cases_min: int = Field(ge=1)
    atol_max: float = Field(ge=0)
    rtol_max: float = Field(ge=0)
    argmax_agreement_min: float = Field(ge=0, le=1)


class EgressRule(_Strict):
    """A place that jobs may connect to through the proxy: one name, one port. There is no wildcard.

    Where `address` is given, the name stands for it and is not looked up, and it may be a private one.
    """

    id: RuleID
    host: HostName
    port: int = Field(ge=1, le=65535)
    address: str | None = None
    reason: str = Field(min_length=10)
    reviewer: str = Field(min_length=2)
    reviewed: date
    expires: date | None = None

    @field_validator("address")
    @classmethod
    def _may_be_reached(cls, address: str | None) -> str | None:
        if address is not None and (fault := address_fault(address, given=True)):
            raise ValueError(f"{address} is {fault}")
        return address


class Profile(_Strict):
    """One file under `policy/profiles/`."""

    schema_: Literal["executor.policy-profile/v1"] = Field(alias="schema")
    name: Word
    reason: str
    reviewer: str
    reviewed: date
    images: tuple[Word, ...] = Field(min_length=1)
    runtime: Word
    network: Literal["none", "allowlist"]
    egress: tuple[EgressRule, ...] = Field(default=(), max_length=EGRESS_RULES_MAX)
    seccomp: Word
    signers: tuple[Literal["local", "keyless", "key"], ...] = Field(min_length=1)
    operators: tuple[Word, ...] = Field(min_length=1)
    plugins: tuple[Word, ...] = ()
    onnx_opset: Range
    onnx_ir: Range
    replay: Replay
    ceilings: Ceilings
    format: tuple[FormatRule, ...] = Field(min_length=1)
    waiver: tuple[Waiver, ...] = ()

    @model_validator(mode="after")
    def _egress_fits_the_network(self) -> "Profile":
        if bool(self.egress) != (self.network == "allowlist"):
            raise ValueError('egress rules go with network = "allowlist", which needs at least one')
        for what, keys in (
            ("rule id", [rule.id for rule in self.egress]),
            ("host and port", [(rule.host, rule.port) for rule in self.egress]),
        ):
            if len(set(keys)) != len(keys):
                raise ValueError(f"a {what} stands twice among the egress rules")
        given: dict[str, str | None] = {}
        for rule in self.egress:
            if given.setdefault(rule.host, rule.address) != rule.address:
                raise ValueError(f"two egress rules have {rule.host} at different addresses")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The effective policy of one profile.

    Attributes:
        profile: The profile.
        operators: Operator rules by format, of all rule sets that the profile composes.
        plugins: Libraries of custom operators by name.
        seccomp_text: The seccomp profile as the engine takes it.
        seccomp_sha256: Its digest, in hex.
        digest: sha256 over the canonical form of all of it, in hex. Comments and layout do not change it.
    """

    profile: Profile
    operators: dict[str, OperatorRules]
    plugins: dict[str, PluginRule]
    seccomp_text: str
    seccomp_sha256: str
    digest: str

    def to_wire(self) -> dict[str, Any]:
        """Return the whole of it as plain JSON, for records: `policy.load.parse_policy` reads it back."""
        return {
            "profile": self.profile.model_dump(mode="json", by_alias=True),
            "operators": {
                form: rules.model_dump(mode="json", by_alias=True) for form, rules in sorted(self.operators.items())
            },
            "plugins": {
                name: rule.model_dump(mode="json", by_alias=True) for name, rule in sorted(self.plugins.items())
            },
            "seccomp": self.seccomp_text,
        }
