"""The comparison: which tensors of two artifacts of one name differ, and how far. Both are loaded: only what passed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field, ValidationError, model_validator

from executor.errors import HostError
from executor.inspection.interface import REASON_CHARACTERS_MAX, Report, Strict, Text

_NAMES_MAX = 100_000


class TensorDifference(Strict):
    """How far one tensor is from what it was. Where no number says so, it is the largest that there is."""

    name: Text
    shape: list[int] = Field(max_length=64)
    dtype: Text
    max_abs: float = Field(ge=0, allow_inf_nan=False)
    max_rel: float = Field(ge=0, allow_inf_nan=False)
    elements: int = Field(ge=0)
    within: bool


class PairReport(Strict):
    """What the worker says of two artifacts of one name."""

    error: Text = ""
    tensors: list[TensorDifference] = Field(default_factory=list, max_length=50)
    count: int = Field(default=0, ge=0)
    within: bool = False
    missing: list[Text] = Field(default_factory=list, max_length=_NAMES_MAX)
    added: list[Text] = Field(default_factory=list, max_length=_NAMES_MAX)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "PairReport":
        if self.count < len(self.tensors) or (self.count and not self.tensors):
            raise ValueError("it lists other tensors than it counts")
        if self.within and not all(tensor.within for tensor in self.tensors):
            raise ValueError("a tensor is farther apart than the artifact that it is in")
        return self


class _Reports(Strict):
    artifacts: dict[str, PairReport]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The inspection.

    Attributes:
        formats: Recognised format by name.
        atol: How far a number may be apart, absolutely.
        rtol: And relative to what it was.
    """

    kind: ClassVar[str] = "compare"
    formats: Mapping[str, str]
    atol: float
    rtol: float

    def params(self) -> Mapping[str, object]:
        """Return what the worker is told beside the files."""
        return {"formats": dict(self.formats), "atol": self.atol, "rtol": self.rtol}

    def parse(self, report: Report) -> dict[str, PairReport]:
        """Parse the worker's report."""
        return parse_reports(report, list(self.formats))

    def died(self, reason: str) -> Report:
        """Return a report by which every artifact differs."""
        return {"artifacts": {name: {"error": reason[:REASON_CHARACTERS_MAX]} for name in self.formats}}


def parse_reports(result: Report, names: Sequence[str]) -> dict[str, PairReport]:
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
