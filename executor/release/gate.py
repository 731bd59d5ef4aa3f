"""The gate: the only maker of an `Approved`, and so the only way to a release."""

from collections.abc import Sequence

from executor.errors import ExecutorError
from executor.transfer.quarantine import Artifact
from policy.decision import Decision

_KEY = object()


class DeniedError(ExecutorError):
    """The policy denies the release. The decision is in `decision`."""

    code = "E-DENIED"

    def __init__(self, decision: Decision) -> None:
        first = decision.findings[0] if decision.findings else None
        what = f"{first.rule}: {first.artifact}: {first.detail}" if first else "nothing was decided on"
        super().__init__(f"denied by policy: {what}", hint=first.remedy if first else "")
        self.decision = decision


class Approved:
    """Artifacts that the policy allows to leave, with the decision that says so.

    Only `approve` can make one: the constructor wants a key that this module alone has.
    """

    __slots__ = ("artifacts", "decision")

    def __init__(self, key: object, artifacts: tuple[Artifact, ...], decision: Decision) -> None:
        if key is not _KEY:
            raise TypeError("only executor.release.gate.approve makes an Approved")
        self.artifacts = artifacts
        self.decision = decision


def approve(decision: Decision, artifacts: Sequence[Artifact]) -> Approved:
    """Turn an allowing decision over exactly these artifacts into an approval.

    Raises:
        DeniedError: The decision has a finding, covers nothing, or covers other bytes than these.
    """
    if not decision.allowed or set(decision.artifacts) != {(a.name, a.sha256) for a in artifacts}:
        raise DeniedError(decision)
    return Approved(_KEY, tuple(artifacts), decision)
