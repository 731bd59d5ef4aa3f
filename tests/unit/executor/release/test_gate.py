"""The gate: no other way to an `Approved`."""

from pathlib import Path

import pytest

from executor.release.gate import Approved, DeniedError, approve
from executor.transfer.quarantine import Artifact
from policy.decision import Decision, Finding

ARTIFACT = Artifact(name="a", role="data", size=0, sha256="0" * 64, path=Path("/nowhere"))
EVIDENCE = ("a", "0" * 64)
FINDING = Finding(rule="R-1", artifact="a", place="p", detail="d", remedy="r")


def test_an_allowing_decision_over_these_artifacts_is_approved() -> None:
    assert approve(Decision(findings=(), artifacts=(EVIDENCE,)), [ARTIFACT]).artifacts == (ARTIFACT,)


@pytest.mark.parametrize(
    "decision",
    [
        Decision(findings=(FINDING,), artifacts=(EVIDENCE,)),
        Decision(findings=(), artifacts=()),
        Decision(findings=(), artifacts=(("b", "0" * 64),)),
        Decision(findings=(), artifacts=(("a", "1" * 64),)),
        Decision(findings=(), artifacts=(EVIDENCE, ("b", "0" * 64))),
    ],
)
def test_a_denial_an_empty_decision_or_one_over_other_artifacts_is_not(decision: Decision) -> None:
    with pytest.raises(DeniedError):
        approve(decision, [ARTIFACT])


def test_nobody_else_can_make_an_approval() -> None:
    with pytest.raises(TypeError):
        Approved(object(), (ARTIFACT,), Decision(findings=(), artifacts=(EVIDENCE,)))


def test_a_denial_says_rule_artifact_and_remedy() -> None:
    with pytest.raises(DeniedError) as denied:
        approve(Decision(findings=(FINDING,), artifacts=(EVIDENCE,)), [ARTIFACT])
    assert denied.value.message == "denied by policy: R-1: a: d"
    assert denied.value.hint == "r"
