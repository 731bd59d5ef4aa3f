"""What came of running a plan again, artifact by artifact: identical, within tolerance, or different, and where. Pure.

The comparing worker is trusted code that reads files of jobs: its word is parsed like anybody else's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from executor.errors import HostError

Verdict = Literal["identical", "within-tolerance", "different"]
_NAMES_MAX = 100_000
_Text = Annotated[str, Field(max_length=2000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TensorDifference(_Strict):
    """How far one tensor is from what it was. Where no number says so, it is the largest that there is."""

    name: _Text
    shape: list[int] = Field(max_length=64)
    dtype: _Text
    max_abs: float = Field(ge=0, allow_inf_nan=False)
    max_rel: float = Field(ge=0, allow_inf_nan=False)
    elements: int = Field(ge=0)
    within: bool


class PairReport(_Strict):
    """What the worker says of two artifacts of one name."""

    error: _Text = ""
    tensors: list[TensorDifference] = Field(default_factory=list, max_length=50)
    count: int = Field(default=0, ge=0)
    within: bool = False
    missing: list[_Text] = Field(default_factory=list, max_length=_NAMES_MAX)
    added: list[_Text] = Field(default_factory=list, max_length=_NAMES_MAX)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "PairReport":
        if self.count < len(self.tensors) or (self.count and not self.tensors):
            raise ValueError("it lists other tensors than it counts")
        if self.within and not all(tensor.within for tensor in self.tensors):
            raise ValueError("a tensor is farther apart than the artifact that it is in")
        return self


class _Reports(_Strict):
    artifacts: dict[str, PairReport]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactComparison:
    """One artifact of the release beside what the plan made this time.

    Attributes:
        name: Its name.
        verdict: What came of it.
        released: sha256 of what was released, in hex.
        reproduced: sha256 of what came out this time; the empty string where nothing did.
        why: What is different, where no tensor says it.
        tensors: The tensors that differ, the farthest apart first.
    """

    name: str
    verdict: Verdict
    released: str
    reproduced: str
    why: str = ""
    tensors: tuple[TensorDifference, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """Return the recorded form."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "released": self.released,
            "reproduced": self.reproduced,
            "why": self.why,
            "tensors": [t.model_dump() for t in self.tensors],
        }


def parse_reports(result: Mapping[str, Any], names: Sequence[str]) -> dict[str, PairReport]:
    """Parse the comparing worker's result.

    Raises:
        HostError: It does not fit, or does not cover exactly these artifacts.
    """
    try:
        reports = _Reports.model_validate(dict(result)).artifacts
    except ValidationError as err:
        raise HostError(f"the comparison's report does not fit: {err.errors()[0]['msg']}") from err
    if set(reports) != set(names):
        raise HostError("the comparison's report is about other artifacts")
    return reports


def judge(name: str, released: str, reproduced: str, report: PairReport) -> ArtifactComparison:
    """Return what a report on two artifacts of different bytes comes to."""
    why = report.error
    if not why and (report.missing or report.added):
        why = f"tensors are missing or added: {', '.join([*report.missing, *report.added])}"
    if not why and not report.count:
        why = "no tensor differs; something else in the file does"
    verdict: Verdict = "within-tolerance" if report.within and report.count and not why else "different"
    return ArtifactComparison(
        name=name,
        verdict=verdict,
        released=released,
        reproduced=reproduced,
        why=why,
        tensors=tuple(report.tensors),
    )


def overall(comparisons: Sequence[ArtifactComparison]) -> Verdict:
    """Return what all comparisons together come to: the worst of them. There is at least one."""
    worst: tuple[Verdict, ...] = ("different", "within-tolerance", "identical")
    return next(v for v in worst if any(c.verdict == v for c in comparisons))
