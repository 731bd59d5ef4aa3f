"""The gate: no other way to an `Approved`."""

from pathlib import Path

import pytest

from executor.gate import Approved, DeniedError, approve
from executor.transfer.quarantine import Artifact
from policy.decision import Decision, Finding

ARTIFACT = Artifact(name="a", role="data", size=0, sha256="0" * 64, path=Path("/nowhere"))
FINDING = Finding(rule="R-1", artifact="a", place="p", detail="d", remedy="r")


def test_an_allowing_decision_over_these_artifacts_is_approved() -> None:
    assert approve(Decision(findings=(), artifacts=("a",)), [ARTIFACT]).artifacts == (ARTIFACT,)


@pytest.mark.parametrize(
    "decision",
    [
        Decision(findings=(FINDING,), artifacts=("a",)),
        Decision(findings=(), artifacts=()),
        Decision(findings=(), artifacts=("b",)),
        Decision(findings=(), artifacts=("a", "b")),
    ],
)
def test_a_denial_an_empty_decision_or_one_over_other_artifacts_is_not(decision: Decision) -> None:
    with pytest.raises(DeniedError):
        approve(decision, [ARTIFACT])


def test_nobody_else_can_make_an_approval() -> None:
    with pytest.raises(TypeError):
        Approved(object(), (ARTIFACT,), Decision(findings=(), artifacts=("a",)))


def test_a_denial_says_rule_artifact_and_remedy() -> None:
    with pytest.raises(DeniedError) as denied:
        approve(Decision(findings=(FINDING,), artifacts=("a",)), [ARTIFACT])
    assert denied.value.message == "denied by policy: R-1: a: d"
    assert denied.value.hint == "r"
