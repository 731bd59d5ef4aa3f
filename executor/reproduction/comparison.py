"""What came of running a plan again, by artifact: identical, within tolerance, or different, and where. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from executor.inspection.compare import PairReport, TensorDifference

Verdict = Literal["identical", "within-tolerance", "different"]


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
