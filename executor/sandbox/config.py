"""The sealed container configuration, as one frozen value whose digest is part of the plan.

The values follow CIS Docker Benchmark 1.6 section 5 and measurements of 2026-11. Hardening flags cost nothing that can
be measured; the network does, and there is none.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

USER = "65532:65532"
TMP_INODES = 8192
FILE_DESCRIPTORS = 1024
SHM_BYTES_MAX = 64 << 20
# Isolated mode takes no options from the environment, so unbuffered output and no bytecode are asked for here.
_COMMAND = ("/usr/bin/python3.11", "-I", "-B", "-u", "-m", "worker")
_ENV = (
    ("HOME", "/tmp"),  # noqa: S108 - a tmpfs of the container's own
    ("LD_PRELOAD", ""),  # an image must not bring one: CVE-2025-23266
    ("NVIDIA_VISIBLE_DEVICES", "void"),
    ("TMPDIR", "/tmp"),  # noqa: S108
    ("TORCHINDUCTOR_CACHE_DIR", "/tmp/inductor"),  # noqa: S108
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seccomp:
    """A seccomp profile: its text as the engine takes it, and the sha256 of that text in hex."""

    name: str
    text: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """All that decides what a container can do. No field has a default: each is a decision of the plan.

    Attributes:
        image_id: `sha256:` digest by which the container is created, never a tag.
        runtime: OCI runtime, such as `runc`.
        network: Only `none` exists so far.
        cpus: CPU ceiling in cores.
        memory_bytes: Memory ceiling, tmpfs included; swap is the same, so there is none.
        pids: Ceiling on processes and threads.
        tmp_bytes: Size of the tmpfs on /tmp, noexec.
        cpu_seconds: RLIMIT_CPU of each process, a backstop.
        devices: CDI device names.
        seccomp: The system calls that are allowed.
    """

    image_id: str
    runtime: str
    network: str
    cpus: float
    memory_bytes: int
    pids: int
    tmp_bytes: int
    cpu_seconds: int
    devices: tuple[str, ...]
    seccomp: Seccomp

    def to_wire(self) -> dict[str, Any]:
        """Return the form that plans and provenance record."""
        wire = {name: getattr(self, name) for name in self.__slots__ if name not in ("seccomp", "devices")}
        return wire | {
            "devices": list(self.devices),
            "seccomp": {"name": self.seccomp.name, "sha256": self.seccomp.sha256},
            "user": USER,
            "read_only_rootfs": True,
            "no_new_privileges": True,
            "capabilities": [],
            "log_driver": "none",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A host path that the container sees, always read-only."""

    source: str
    target: PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequest:
    """One container to create: the sealed configuration and what is particular to this run."""

    name: str
    config: SandboxConfig
    mounts: tuple[Mount, ...]
    labels: tuple[tuple[str, str], ...]


def create_body(request: ContainerRequest) -> dict[str, Any]:
    """Return the body of `POST /containers/create` (Docker Engine API 1.41). Pure, so that tests can record it."""
    config = request.config
    return {
        "Image": config.image_id,
        "Entrypoint": list(_COMMAND),
        "Cmd": [],
        "User": USER,
        "WorkingDir": "/tmp",  # noqa: S108
        "Env": [f"{key}={value}" for key, value in _ENV],
        "Tty": False,
        "OpenStdin": False,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "NetworkDisabled": True,
        "Healthcheck": {"Test": ["NONE"]},  # an image's HEALTHCHECK is code that runs beside the job
        "Labels": dict(request.labels),
        "HostConfig": _host_config(request),
    }


def inert_body(image_id: str, labels: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Return the body of a container that is never started: only its root is looked at."""
    return {
        "Image": image_id,
        "Entrypoint": ["/nonexistent"],
        "Cmd": [],
        "User": USER,
        "Env": [],
        "NetworkDisabled": True,
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": dict(labels),
        "HostConfig": {
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "LogConfig": {"Type": "none", "Config": {}},
            "RestartPolicy": {"Name": "no"},
        },
    }


def _host_config(request: ContainerRequest) -> dict[str, Any]:
    config = request.config
    tmpfs = f"rw,noexec,nosuid,nodev,size={config.tmp_bytes},nr_inodes={TMP_INODES},mode=1777"
    return {
        "NetworkMode": config.network,
        "Runtime": config.runtime,
        "ReadonlyRootfs": True,
        "Privileged": False,
        "CapAdd": [],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true", f"seccomp={config.seccomp.text}"],
        "PidsLimit": config.pids,
        "Memory": config.memory_bytes,
        "MemorySwap": config.memory_bytes,
        "NanoCpus": round(config.cpus * 1e9),
        "OomKillDisable": False,
        "IpcMode": "private",
        "ShmSize": min(SHM_BYTES_MAX, config.memory_bytes // 4),
        "Init": False,
        "AutoRemove": False,  # the exit state would race with the removal
        "RestartPolicy": {"Name": "no"},
        "PublishAllPorts": False,
        "Dns": ["127.0.0.1"],  # else the host's resolver is written into the container
        "DnsSearch": ["."],
        "Tmpfs": {"/tmp": tmpfs},  # noqa: S108
        "Ulimits": [
            {"Name": name, "Soft": value, "Hard": value}
            for name, value in (("nofile", FILE_DESCRIPTORS), ("core", 0), ("cpu", config.cpu_seconds))
        ],
        "LogConfig": {"Type": "none", "Config": {}},
        "Devices": [],
        "DeviceRequests": _device_requests(config.devices),
        "Mounts": [_mount(m) for m in request.mounts],
    }


def _device_requests(devices: tuple[str, ...]) -> list[dict[str, Any]]:
    """CDI names one device and runs no hook in an environment that the container controls, unlike `--gpus`."""
    return [{"Driver": "cdi", "DeviceIDs": list(devices)}] if devices else []


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": mount.source,
        "Target": str(mount.target),
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rprivate"},
    }
