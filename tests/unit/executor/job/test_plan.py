"""The plan: pure, complete, and the same bytes from the same request."""

import json
from dataclasses import replace
from typing import Any

import pytest

from executor.errors import RequestError
from executor.job.plan import LaunchPlan, plan_launch
from executor.job.spec import JobSpec, parse_job
from images.lock import load_lock
from policy.load import load_policy
from policy.model import Profile

TRAIN = {"apiVersion": "executor/v1", "kind": "train"}


def spec(**change: Any) -> JobSpec:
    return parse_job(json.dumps(TRAIN | change).encode(), source="job")


def plan(**change: Any) -> LaunchPlan:
    return plan_launch(spec(**change), image=load_lock("cpu"), policy=load_policy("standard"), code=None)


def test_equal_requests_give_equal_plans() -> None:
    assert plan(seed=1).to_wire() == plan(seed=1).to_wire()
    assert plan(seed=1).digest == plan(seed=1).digest


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"name": "other"},
        {"params": {"epochs": 3}},
        {"limits": {"pids": 64}},
        {"limits": {"wall_seconds": 5}},
        {"limits": {"log_bytes": 2048}},
        {"gpus": ["nvidia.com/gpu=0"]},
        {"inputs": {n: {"uri": n, "sha256": "0" * 64} for n in ("nodes", "edges")}},
    ],
)
def test_whatever_changes_the_run_changes_the_digest(change: dict[str, Any]) -> None:
    assert plan(**change).digest != plan().digest


def test_where_an_input_lies_is_not_part_of_the_plan() -> None:
    one, two = (
        plan(inputs={n: {"uri": f"{place}/{n}", "sha256": "0" * 64} for n in ("nodes", "edges")}) for place in "ab"
    )
    assert one.digest == two.digest


def test_parameters_are_planned_with_their_defaults() -> None:
    assert plan(params={"epochs": 3}).params["hidden"] == 16


def test_the_image_is_planned_by_id() -> None:
    assert plan().job.image_id == load_lock("cpu").expect.image_id


def test_a_job_cannot_starve_the_inspection_of_what_it_sent() -> None:
    limits = {"cpus": 0.05, "pids": 8, "memory_bytes": 64 << 20, "tmp_bytes": 1 << 20}
    assert plan(limits=limits).inspection == plan().inspection


RULE = {
    "id": "EGRESS-ONE",
    "host": "one.example.org",
    "port": 443,
    "reason": "A host that the tests know",
    "reviewer": "security-review",
    "reviewed": "2026-11-24",
}


def reaching_out(**rule: Any) -> LaunchPlan:
    policy = load_policy("standard")
    wire = policy.profile.model_dump(by_alias=True) | {"network": "allowlist", "egress": [RULE | rule]}
    allowing = replace(policy, profile=Profile.model_validate(wire))
    return plan_launch(spec(), image=load_lock("cpu"), policy=allowing, code=None, proxy_image=load_lock("egress"))


def test_a_way_out_is_the_jobs_alone_and_its_proxy_is_pinned() -> None:
    planned = reaching_out()
    assert (planned.job.network, planned.inspection.network) == ("allowlist", "none")
    assert planned.egress is not None
    assert planned.egress.proxy.image_id == load_lock("egress").expect.image_id
    assert (planned.egress.proxy.network, planned.egress.proxy.runtime) == ("egress", "runc")
    wire = planned.to_wire()["egress"]
    assert wire["rules"] == [RULE | {"address": None, "expires": None}]
    assert wire["image"]["lock_sha256"] == load_lock("egress").digest
    assert plan().to_wire()["egress"] is None
    assert reaching_out(port=80).digest != planned.digest != plan().digest


def test_inspection_never_gets_a_device() -> None:
    planned = plan(gpus=["nvidia.com/gpu=0"])
    assert planned.job.devices == ("nvidia.com/gpu=0",)
    assert planned.inspection.devices == ()


@pytest.mark.parametrize(
    "name", ["cpus", "memory_bytes", "pids", "wall_seconds", "output_bytes", "log_bytes", "tmp_bytes"]
)
def test_a_limit_on_the_profiles_ceiling_is_planned_and_one_over_it_is_refused(name: str) -> None:
    ceiling = getattr(load_policy("standard").profile.ceilings, name)
    room = {"memory_bytes": 16 << 30} if name == "tmp_bytes" else {}
    plan(limits=room | {name: ceiling})
    with pytest.raises(RequestError, match=f"limits.{name} is"):
        plan(limits=room | {name: ceiling + 1})


def test_code_of_another_digest_than_the_job_names_is_refused() -> None:
    code = {"path": "a.py", "sha256": "1" * 64}
    job = spec(kind="script", code=code, outputs=[{"name": "a.txt"}])
    image, policy = load_lock("cpu"), load_policy("standard")
    assert plan_launch(job, image=image, policy=policy, code=("1" * 64, "a.py")).code == ("1" * 64, "a.py")
    with pytest.raises(RequestError, match="tree digest"):
        plan_launch(job, image=image, policy=policy, code=("2" * 64, "a.py"))


def test_an_image_that_the_profile_does_not_name_is_refused() -> None:
    policy = load_policy("standard")
    profile = policy.profile.model_copy(update={"images": ("other",)})
    other = type(policy)(
        profile=profile,
        operators=policy.operators,
        plugins=policy.plugins,
        seccomp_text=policy.seccomp_text,
        seccomp_sha256=policy.seccomp_sha256,
        digest=policy.digest,
    )
    with pytest.raises(RequestError, match="does not allow image"):
        plan_launch(spec(), image=load_lock("cpu"), policy=other, code=None)
