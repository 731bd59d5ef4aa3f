"""The sealed container configuration, as one frozen value whose digest is part of the plan.

The values follow CIS Docker Benchmark 1.6 section 5 and measurements of 2026-11. Hardening flags cost nothing that can
be measured; the network does, and there is none.

Every container has the same three mounts, of three folders of its own on the host. So a container that waits warm and
one that is made for a job are asked for in the same words, and files that the host adds later are there for the job to
read. The mounts are read-only, but a runtime may drop `noexec` from a bind mount (seen with crun 1.8 and with runc 1.1
on read-only volumes, 2026-11): that no native library comes in by them is seen to where their content is taken in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from executor.canonical import digest_of
from executor.sandbox.users import UserRange

_INERT_USER = "65532:65532"  # of what is never started
FILE_DESCRIPTORS = 1024
SHM_BYTES_MAX = 64 << 20
# Isolated mode takes no options from the environment, so unbuffered output and no bytecode are asked for here.
MOUNTS = (("in", "/in"), ("code", "/job"), ("socket", "/run/executor"))
_COMMAND = ("/usr/bin/python3.11", "-I", "-B", "-u", "-m", "worker")
_ENV = (
    ("HOME", "/tmp"),  # noqa: S108 - a tmpfs of the container's own
    ("LOGNAME", "job"),  # the user ID has no entry in /etc/passwd
    ("LD_PRELOAD", ""),  # an image must not bring one: CVE-2025-23266
    ("NVIDIA_VISIBLE_DEVICES", "void"),
    ("TMPDIR", "/tmp"),  # noqa: S108
    ("TORCHINDUCTOR_CACHE_DIR", "/tmp/inductor"),  # noqa: S108
    ("USER", "job"),
)
EGRESS_SOCKET = "egress.sock"
# In place of the engine's own: how many terminals can be open is counted for the whole machine (kernel.pty.max).
_NO_TERMINALS = "ro,noexec,nosuid,nodev,size=4k,nr_inodes=1,mode=755"
# Least, first and largest buffers of a TCP connection within a container (tcp(7)): until a job with too many of them is
# ended they hold a quarter of what those of the kernel's own sizes hold (measured 2026-12-01).
_SMALL_BUFFERS = {f"net.ipv4.tcp_{end}mem": "4096 16384 65536" for end in "rw"}
# Where the worker's relay listens in the job's container. Programs look for either spelling.
_PROXY_ENV = tuple(
    (name, "http://127.0.0.1:3128") for name in ("HTTPS_PROXY", "HTTP_PROXY", "http_proxy", "https_proxy")
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
        network: `none`, and `allowlist` for a job that has the proxy as its only way out: neither has an interface but
            loopback. `egress` for the proxy itself, which is on a network of its own.
        cpus: CPU ceiling in cores.
        memory_bytes: Memory ceiling, tmpfs included; swap is the same, so there is none.
        pids: Ceiling on processes and threads.
        tmp_bytes: Size of the tmpfs on /tmp, noexec.
        tmp_inodes: Number of files and folders that it can hold.
        devices: CDI device names.
        seccomp: The system calls that are allowed.
        users: The users of whom it gets one that no other container has.
    """

    image_id: str
    runtime: str
    network: str
    cpus: float
    memory_bytes: int
    pids: int
    tmp_bytes: int
    tmp_inodes: int
    devices: tuple[str, ...]
    seccomp: Seccomp
    users: UserRange

    @property
    def has_guest_kernel(self) -> bool:
        """Whether the host's kernel sees of the container's processes only the sandbox around them (gVisor)."""
        return self.runtime == "runsc"

    @property
    def threads(self) -> int:
        """CPU threads that the CPU limit is good for."""
        return max(1, int(self.cpus))

    @property
    def digest(self) -> str:
        """sha256, in hex, of the whole request to the engine, but for what is particular to one container."""
        return _digest(self)

    def to_wire(self) -> dict[str, Any]:
        """Return the form that plans and provenance record."""
        return {
            "image_id": self.image_id,
            "runtime": self.runtime,
            "network": self.network,
            "cpus": self.cpus,
            "memory_bytes": self.memory_bytes,
            "pids": self.pids,
            "tmp_bytes": self.tmp_bytes,
            "tmp_inodes": self.tmp_inodes,
            "devices": list(self.devices),
            "seccomp": {"name": self.seccomp.name, "sha256": self.seccomp.sha256},
            "users": self.users.to_wire(),
            "read_only_rootfs": True,
            "no_new_privileges": True,
            "capabilities": [],
            "log_driver": "none",
            "sha256": self.digest,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequest:
    """One container to create: the sealed configuration and what is particular to this container.

    Attributes:
        name: Its name in the engine.
        config: The sealed configuration.
        folder: The host's folder with the three that it sees, read-only: `in`, `code` and `socket`.
        labels: Whose it is.
        user: Its user and group ID; None as long as it has none.
        network: The engine's network that a proxy is on; the configuration's word for it as long as it has none.
    """

    name: str
    config: SandboxConfig
    folder: Path
    labels: tuple[tuple[str, str], ...]
    user: int | None = None
    network: str = "egress"


def create_body(request: ContainerRequest) -> dict[str, Any]:
    """Return the body of `POST /containers/create` (Docker Engine API 1.41). Pure, so that tests can record it.

    The CPU time of a job is limited by its own process 1, before any of the job's code runs: how long a job may take is
    not known yet when a container is made to wait for one.
    """
    config = request.config
    assert request.user is not None, "it was leased"
    return {
        "Image": config.image_id,
        "Entrypoint": list(_COMMAND),
        "Cmd": [],
        "User": f"{request.user}:{request.user}",
        "WorkingDir": "/tmp",  # noqa: S108
        "Env": [f"{key}={value}" for key, value in (*_ENV, *(_PROXY_ENV if config.network == "allowlist" else ()))],
        "Tty": False,
        "OpenStdin": False,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "NetworkDisabled": config.network != "egress",
        "Healthcheck": {"Test": ["NONE"]},  # an image's HEALTHCHECK is code that runs beside the job
        "Labels": dict(request.labels),
        "HostConfig": _host_config(request),
    }


@lru_cache(maxsize=64)  # a run asks for the digest of equal configurations several times: 0.4 ms each
def _digest(config: SandboxConfig) -> str:
    body = create_body(ContainerRequest(name="", config=config, folder=Path("/"), labels=(), user=0))
    return digest_of(body | {"User": config.users.to_wire()})


def inert_body(image_id: str, labels: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Return the body of a container that is never started: only its root is looked at."""
    return {
        "Image": image_id,
        "Entrypoint": ["/nonexistent"],
        "Cmd": [],
        "User": _INERT_USER,
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
    tmpfs = f"rw,noexec,nosuid,nodev,size={config.tmp_bytes},nr_inodes={config.tmp_inodes},mode=1777"
    return {
        "NetworkMode": request.network if config.network == "egress" else "none",
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
        "Tmpfs": {"/tmp": tmpfs, "/dev/pts": _NO_TERMINALS},  # noqa: S108
        "Ulimits": [
            {"Name": name, "Soft": value, "Hard": value} for name, value in (("nofile", FILE_DESCRIPTORS), ("core", 0))
        ],
        "LogConfig": {"Type": "none", "Config": {}},
        "Sysctls": {} if config.network == "egress" else _SMALL_BUFFERS,
        "Devices": [],
        "DeviceRequests": _device_requests(config.devices),
        "Mounts": [_mount(request.folder / name, target) for name, target in MOUNTS],
    }


def _device_requests(devices: tuple[str, ...]) -> list[dict[str, Any]]:
    """CDI names one device and runs no hook in an environment that the container controls, unlike `--gpus`."""
    return [{"Driver": "cdi", "DeviceIDs": list(devices)}] if devices else []


def host_config_digest(reported: Mapping[str, Any], folder: Path) -> str:
    """Return the sha256, in hex, of a HostConfig as the engine reports it, with the container's own folder left out.

    Two containers with the same digest are under the same restrictions, whoever made them and whenever.
    """
    mounts = [dict(m, Source=str(m.get("Source", "")).removeprefix(str(folder))) for m in reported.get("Mounts") or ()]
    return digest_of({**reported, "Mounts": mounts})


def _mount(source: Path, target: str) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": target,
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rprivate"},
    }
