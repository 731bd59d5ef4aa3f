"""Admission: an engine or image that would leave a protection out is refused before anything starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.errors import ImageMismatchError, RequestError, UnsupportedError
from executor.job.admission import admit, check_engine, check_image
from executor.job.plan import plan_launch
from executor.sandbox.config import ContainerRequest, create_body
from executor.sandbox.engine import ImageFacts
from images.lock import load_lock
from policy.load import load_policy
from tests.fakes.engine import HEALTHY, FakeEngine
from tests.unit.executor.job.test_plan import plan, spec

PLAN = plan()
FACTS = ImageFacts(
    image_id=PLAN.job.image_id,
    volumes=frozenset(),
    env=("PATH=/usr/bin", "NVIDIA_VISIBLE_DEVICES=void"),
    healthcheck=False,
    working_dir="/",
)


def test_the_pinned_image_on_a_healthy_engine_is_admitted() -> None:
    for digest in (PLAN.job.image_id, PLAN.image.expect.manifest):
        admitted = admit(FakeEngine(lambda _: None, image_id=digest), PLAN)
        assert (admitted.engine, admitted.image_id) == (HEALTHY, digest)


@pytest.mark.parametrize("lacking", ["seccomp", "memory_limit", "pids_limit"])
def test_an_engine_that_cannot_enforce_a_limit_is_refused(lacking: str) -> None:
    broken: dict[str, Any] = {lacking: False}
    with pytest.raises(UnsupportedError, match="the engine cannot"):
        check_engine(replace(HEALTHY, **broken), "runc", ())


def test_an_engine_that_is_too_old_is_refused() -> None:
    check_engine(replace(HEALTHY, api=(1, 41)), "runc", ())
    with pytest.raises(UnsupportedError, match=r"API 1\.40, needed is 1\.41"):
        check_engine(replace(HEALTHY, api=(1, 40)), "runc", ())


def test_a_runtime_that_the_engine_lacks_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no runtime 'runsc'"):
        check_engine(HEALTHY, "runsc", ())


def test_a_gpu_needs_an_engine_with_cdi() -> None:
    check_engine(replace(HEALTHY, cdi=True), "runc", ("nvidia.com/gpu=0",))
    with pytest.raises(UnsupportedError, match="no CDI") as refused:
        check_engine(HEALTHY, "runc", ("nvidia.com/gpu=0",))
    assert "Docker Engine 25" in refused.value.hint


def test_an_image_that_the_engine_does_not_have_is_refused_with_the_way_to_load_it() -> None:
    with pytest.raises(ImageMismatchError, match="does not have") as refused:
        check_image(None, PLAN.image)
    assert "executor image load cpu" in refused.value.hint


def test_the_manifest_digest_of_the_containerd_store_is_accepted_too() -> None:
    check_image(replace(FACTS, image_id=PLAN.image.expect.manifest), PLAN.image)


@pytest.mark.parametrize(
    "change",
    [
        {"image_id": "sha256:" + "0" * 64},
        {"volumes": frozenset({"/data"})},
        {"healthcheck": True},
        {"env": ("LD_PRELOAD=/x.so",)},
        {"env": ("LD_LIBRARY_PATH=/x",)},
        {"env": ("NVIDIA_VISIBLE_DEVICES=all",)},
        {"env": ("NVIDIA_DRIVER_CAPABILITIES=all",)},
        {"working_dir": "/proc/self/fd/8"},
    ],
)
def test_an_image_that_brings_what_it_must_not_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ImageMismatchError):
        check_image(replace(FACTS, **change), PLAN.image)


def test_the_cuda_image_is_admitted_and_gets_its_device_by_cdi_alone() -> None:
    allowing = load_policy("cuda")
    lock = load_lock("cuda")
    cuda = plan_launch(spec(gpus=["nvidia.com/gpu=0"]), image=lock, policy=allowing, code=None)
    facts = replace(FACTS, image_id=lock.expect.image_id, env=lock.recipe.env)
    assert check_image(facts, lock) == lock.expect.image_id
    body = create_body(ContainerRequest(name="n", config=cuda.job, folder=Path("/f"), labels=(), user=1))
    assert body["Image"] == lock.expect.image_id
    assert body["HostConfig"]["DeviceRequests"] == [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0"]}]
    assert body["HostConfig"]["Runtime"] == "runc"
    assert "NVIDIA_VISIBLE_DEVICES=void" in body["Env"]


def test_no_job_can_ask_for_the_cuda_image_until_a_profile_allows_it() -> None:
    with pytest.raises(RequestError, match="does not allow image 'cuda'"):
        plan_launch(spec(), image=load_lock("cuda"), policy=load_policy("standard"), code=None)
