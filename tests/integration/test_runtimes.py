"""The OCI runtimes: chosen by profile, refused where the engine lacks one, and no different in what a job makes."""

from typing import Any

import pytest

from executor.sandbox.docker import DockerEngine
from policy.load import load_policy
from tests.integration.conftest import Host, containers

PROFILES = {"standard": "runc", "crun": "crun", "gvisor": "runsc"}


def has(runtime: str) -> bool:
    return runtime in DockerEngine().info().runtimes


def need(*runtimes: str) -> None:
    lacking = [runtime for runtime in runtimes if not has(runtime)]
    if lacking:
        pytest.skip(f"this engine was not started by .ci/engine and has no {', '.join(lacking)}")


def test_each_profile_names_its_runtime() -> None:
    assert {name: load_policy(name).profile.runtime for name in PROFILES} == PROFILES


def test_a_deterministic_job_makes_the_same_release_under_each(host: Host) -> None:
    """Trained, exported to both formats, and replayed: the same bytes, whoever starts the container."""
    need(*PROFILES.values())
    digests: dict[str, dict[str, str]] = {}
    for profile in PROFILES:
        job = host.folder / f"{profile}.json"
        job.write_text(
            '{"apiVersion": "executor/v1", "kind": "train", "seed": 5, "params": {"epochs": 20},'
            f' "limits": {{"cpus": 1}}, "profile": "{profile}"}}'
        )
        done, target = host.run(job)
        assert done.code == 0, done.stderr
        digests[profile] = {a["name"]: a["sha256"] for a in done.json["artifacts"]}
        assert host.call("verify", str(target)).code == 0
        manifest = (target / "manifest.json").read_text()
        assert f'"runtime":"{PROFILES[profile]}"' in manifest
    assert len(digests["standard"]) == 3
    assert digests["standard"] == digests["crun"] == digests["gvisor"]
    assert containers() == ""


@pytest.mark.parametrize("profile", ["crun", "gvisor"])
def test_the_wall_limit_holds_under_each(host: Host, profile: str) -> None:
    need(PROFILES[profile])
    done, _ = host.run(host.script_job("sleep", limits={"wall_seconds": 3}, profile=profile))
    assert (done.code, done.json["status"]) == (11, "timed_out")
    assert done.json["timings"]["remove"] < 60
    assert containers() == ""


@pytest.mark.parametrize("profile", ["crun", "gvisor"])
def test_memory_is_limited_under_each(host: Host, profile: str) -> None:
    need(PROFILES[profile])
    done, _ = host.run(host.script_job("allocate", profile=profile))
    status: Any = done.json["status"]
    # gVisor's kernel is in the same cgroup as the job: where it is the one that is killed there is no word from within.
    assert status == "out_of_memory", done.json["outcome"]
