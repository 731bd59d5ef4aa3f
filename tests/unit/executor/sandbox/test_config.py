"""The request that goes to the engine, recorded: what a sealed container is made of."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from executor.sandbox.config import ContainerRequest, SandboxConfig, Seccomp, create_body, host_config_digest
from executor.sandbox.users import UserRange

CONFIG = SandboxConfig(
    image_id="sha256:" + "a" * 64,
    runtime="runc",
    network="none",
    cpus=1.5,
    memory_bytes=512 << 20,
    pids=64,
    tmp_bytes=64 << 20,
    tmp_inodes=4096,
    devices=(),
    seccomp=Seccomp(name="cpu", text="{}", sha256="b" * 64),
    users=UserRange(first=20_000, last=29_999),
)


def body(**change: Any) -> dict[str, Any]:
    request = ContainerRequest(
        name="n", config=replace(CONFIG, **change), folder=Path("/f"), labels=(("k", "v"),), user=20_007
    )
    return create_body(request)


def test_the_engine_is_asked_for_a_sealed_container() -> None:
    recorded = body()
    host = recorded["HostConfig"]
    assert recorded["Image"] == CONFIG.image_id
    assert recorded["User"] == "20007:20007"
    assert recorded["Entrypoint"][0] == "/usr/bin/python3.11"
    assert recorded["NetworkDisabled"] is True
    assert recorded["Healthcheck"] == {"Test": ["NONE"]}
    expected = {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "Privileged": False,
        "CapAdd": [],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true", "seccomp={}"],
        "PidsLimit": 64,
        "Memory": 512 << 20,
        "MemorySwap": 512 << 20,
        "NanoCpus": 1_500_000_000,
        "IpcMode": "private",
        "AutoRemove": False,
        "LogConfig": {"Type": "none", "Config": {}},
        "Dns": ["127.0.0.1"],
        "Devices": [],
        "DeviceRequests": [],
    }
    assert {name: host[name] for name in expected} == expected
    assert "noexec,nosuid,nodev" in host["Tmpfs"]["/tmp"]
    assert {u["Name"] for u in host["Ulimits"]} == {"nofile", "core"}


def test_every_mount_is_read_only_and_private() -> None:
    mounts = body()["HostConfig"]["Mounts"]
    assert {(m["Source"], m["Target"]) for m in mounts} == {
        ("/f/in", "/in"),
        ("/f/code", "/job"),
        ("/f/socket", "/run/executor"),
    }
    for mount in mounts:
        assert mount["ReadOnly"] is True
        assert mount["BindOptions"] == {"Propagation": "rprivate"}


def test_gpus_are_asked_for_by_cdi_name_and_no_other_way() -> None:
    host = body(devices=("nvidia.com/gpu=0", "nvidia.com/gpu=1"))["HostConfig"]
    assert host["DeviceRequests"] == [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]}]
    assert host["Runtime"] == "runc"


def test_no_gpu_is_visible_to_a_job_that_asked_for_none() -> None:
    environment = body()["Env"]
    assert "NVIDIA_VISIBLE_DEVICES=void" in environment
    assert "LD_PRELOAD=" in environment


@pytest.mark.parametrize(
    "field", [f.name for f in fields(SandboxConfig) if f.name not in ("seccomp", "devices", "users")]
)
def test_every_field_of_the_configuration_is_recorded(field: str) -> None:
    assert CONFIG.to_wire()[field] == getattr(CONFIG, field)


def test_the_recorded_form_and_the_digest_name_the_users_and_no_user() -> None:
    assert CONFIG.to_wire()["users"] == [20_000, 29_999]
    assert "user" not in CONFIG.to_wire()


def test_a_container_without_a_user_is_not_asked_for() -> None:
    with pytest.raises(AssertionError, match="leased"):
        create_body(ContainerRequest(name="n", config=CONFIG, folder=Path("/f"), labels=()))


def test_the_recorded_form_names_the_seccomp_profile_by_digest() -> None:
    assert CONFIG.to_wire()["seccomp"] == {"name": "cpu", "sha256": "b" * 64}


CHANGES: dict[str, Any] = {
    "image_id": "sha256:" + "c" * 64,
    "runtime": "crun",
    "network": "allowlist",
    "cpus": 2.0,
    "memory_bytes": 1 << 30,
    "pids": 65,
    "tmp_bytes": 1 << 20,
    "tmp_inodes": 100,
    "devices": ("nvidia.com/gpu=0",),
    "seccomp": Seccomp(name="cpu", text="[]", sha256="d" * 64),
    "users": UserRange(first=20_000, last=30_000),
}


def test_every_field_of_the_configuration_changes_its_digest() -> None:
    assert set(CHANGES) == {f.name for f in fields(SandboxConfig)}
    digests = {replace(CONFIG, **{name: value}).digest for name, value in CHANGES.items()}
    assert len(digests | {CONFIG.digest}) == len(CHANGES) + 1
    assert CONFIG.to_wire()["sha256"] == CONFIG.digest


def test_what_is_particular_to_a_container_is_not_part_of_the_digest_that_the_engine_reports() -> None:
    one, two = (
        create_body(ContainerRequest(name=name, config=CONFIG, folder=Path(name), labels=(), user=1))["HostConfig"]
        for name in ("/a", "/b")
    )
    assert host_config_digest(one, Path("/a")) == host_config_digest(two, Path("/b"))
    assert host_config_digest(one, Path("/a")) != host_config_digest(one, Path("/b"))
    assert host_config_digest(one | {"Memory": 1}, Path("/a")) != host_config_digest(one, Path("/a"))
