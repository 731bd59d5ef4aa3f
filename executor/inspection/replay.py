"""The replay: models that passed the inventory are loaded, and run on the test vectors that came with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field, ValidationError

from executor.errors import HostError
from executor.inspection.interface import REASON_CHARACTERS_MAX, Report, Strict, Text
from policy.inspection import ModelReplay, ReplayCase


class _Case(Strict):
    case: Text
    shape: list[int]
    max_abs: float
    allowed: float
    argmax_agreement: float


class _Model(Strict):
    error: Text = ""
    cases: list[_Case] = Field(default_factory=list)
    operators: list[Text] = Field(default_factory=list)
    registered: list[Text] = Field(default_factory=list)


class _Replays(Strict):
    models: dict[str, _Model]
    atol: float
    rtol: float
    environment: dict[str, Text]


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
    wire: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The inspection.

    Attributes:
        models: Recognised format of each model, by name.
        vectors: Name of the test vectors, or None.
    """

    kind: ClassVar[str] = "replay"
    models: Mapping[str, str]
    vectors: str | None

    def params(self) -> Mapping[str, object]:
        """Return what the worker is told beside the files."""
        return {"models": dict(self.models), "vectors": self.vectors}

    def parse(self, report: Report) -> Replays:
        """Parse the worker's report."""
        return parse_replays(report, sorted(self.models))

    def died(self, reason: str) -> Report:
        """Return a report that denies every model."""
        models = {name: {"error": reason[:REASON_CHARACTERS_MAX]} for name in self.models}
        return {"models": models, "atol": 0.0, "rtol": 0.0, "environment": {}}


def parse_replays(result: Report, models: Sequence[str]) -> Replays:
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
