"""Every attempt of the battery fails in the sealed container for its reason, and gets through in a weakened one.

The weakened container differs by the one protection that the attempt is about, so that a passing test says that this
protection holds, and not that the attempt was clumsy.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.doctor.attempts import ATTEMPTS, Attempt
from executor.doctor.battery import judge, plan_attempt, run_attempt
from executor.run.containers import Context
from executor.sandbox import docker as docker_adapter
from executor.sandbox.config import ContainerRequest, create_body
from executor.sandbox.docker import DockerEngine
from executor.sandbox.outcome import OutcomeKind
from executor.state.home import Home
from tests.escape.weakenings import WEAKENINGS, Weakening, weakening_for

# What no missing protection of ours would let through: the kernel itself keeps process 1 from signals of its namespace.
KEPT_BY_THE_KERNEL = frozenset({"end process 1"})


def test_the_battery_is_wide() -> None:
    families = Counter(a.family for a in ATTEMPTS)
    assert len({a.name for a in ATTEMPTS}) == len(ATTEMPTS) >= 40
    assert families["native code"] >= 12
    assert set(families) == {
        "filesystem",
        "network",
        "process",
        "kernel interface",
        "native code",
        "resources",
        "output channel",
        "worker protocol",
    }


def test_every_attempt_has_a_sandbox_that_it_gets_through() -> None:
    names = {a.name for a in ATTEMPTS}
    assert set(WEAKENINGS) <= names
    lacking = {a.name for a in ATTEMPTS if weakening_for(a.name, a.family) is None}
    assert lacking == KEPT_BY_THE_KERNEL


def got_through(attempt: Attempt, weakening: Weakening, context: Context, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return how an attempt failed in a weakened sandbox, or the empty string."""
    weaker = replace(attempt, limits={**attempt.limits, **weakening.limits})
    with monkeypatch.context() as patch:
        if weakening.patch is not None:
            weakening.patch(patch)

        def body(request: ContainerRequest) -> dict[str, Any]:
            made = create_body(request)
            if weakening.body is not None:
                weakening.body(made)
            return made

        patch.setattr(docker_adapter, "create_body", body)
        plan = plan_attempt(weaker)
        result, _ = run_attempt(weaker, plan, image_id=plan.job.image_id, context=context)
    return "" if result.outcome.kind is OutcomeKind.SUCCEEDED else result.outcome.reason


@pytest.mark.engine
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda a: a.name)
def test_an_attempt_fails_sealed_and_gets_through_weakened(
    home: Path, monkeypatch: pytest.MonkeyPatch, attempt: Attempt
) -> None:
    context = Context(home=Home(home), engine=DockerEngine())
    weakening = weakening_for(attempt.name, attempt.family)
    if weakening is not None:
        failed = got_through(attempt, weakening, context, monkeypatch)
        assert not failed, f"the attempt proves nothing: {failed}"
    plan = plan_attempt(attempt)
    result, sent = run_attempt(attempt, plan, image_id=plan.job.image_id, context=context)
    assert judge(attempt, result, sent) is None
    assert result.removed
    assert list(context.home.runs.iterdir()) == []
