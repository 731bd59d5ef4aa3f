"""A job file, read and planned: who signs on this host must be who the profile lets sign."""

from pathlib import Path

import pytest

from executor.errors import RequestError
from executor.job import prepare as prepare_module
from executor.job.prepare import prepare
from executor.state.home import Home
from policy.load import load_policy, make_policy
from signing.choice import TRUST_MODES
from signing.modes import choose_key

JOB = Path(__file__).parents[4] / "examples/karate-club.yaml"


def test_the_standard_profile_lets_any_of_the_three_modes_sign(home: Path) -> None:
    assert set(prepare(JOB, home=Home(home)).plan.policy.profile.signers) == set(TRUST_MODES)


def test_a_profile_that_wants_another_signer_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = load_policy("standard")
    profile = policy.profile.model_copy(update={"signers": ("keyless", "key")})
    strict = make_policy(profile, policy.operators, {}, policy.seccomp_text)
    monkeypatch.setattr(prepare_module, "load_policy", lambda name: strict)
    with pytest.raises(RequestError, match="does not let the local trust domain sign"):
        prepare(JOB, home=Home(home))
    choose_key(Home(home).trust, key=None, passphrase=None)
    prepare(JOB, home=Home(home))
