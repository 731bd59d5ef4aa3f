"""The policy's files as frozen types: operator rules and profiles. Strict: an unknown field is refused."""

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

RuleID = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]*(-[A-Z0-9]+)+$")]
OperatorName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,120}$")]
Namespace = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{0,120}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OperatorRule(_Strict):
    """Allows or denies exact operator names of one namespace. There is no wildcard: a whole namespace is never safe."""

    id: RuleID
    effect: Literal["allow", "deny"]
    namespace: Namespace
    names: tuple[OperatorName, ...] = Field(min_length=1)
    reason: str = Field(min_length=10)
    remedy: str = ""
    reviewer: str = Field(min_length=2)
    reviewed: date
    expires: date | None = None


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


class Profile(_Strict):
    """One file under `policy/profiles/`."""

    schema_: Literal["executor.policy-profile/v1"] = Field(alias="schema")
    name: Word
    reason: str
    reviewer: str
    reviewed: date
    images: tuple[Word, ...] = Field(min_length=1)
    runtime: Word
    network: Literal["none"]
    seccomp: Word
    operators: tuple[Word, ...] = Field(min_length=1)
    onnx_opset: Range
    onnx_ir: Range
    replay: Replay
    ceilings: Ceilings
    format: tuple[FormatRule, ...] = Field(min_length=1)
