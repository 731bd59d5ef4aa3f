"""Attempts to break out. Each must fail in the sealed container, and was seen succeeding in a weakened one right here.

The weakened container differs by the one protection that the attempt is about, so that a passing test says that this
protection holds, and not that the attempt was clumsy.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.errors import HostError
from executor.events import Events
from executor.home import Home
from executor.pipeline import prepare
from executor.sandbox import docker as docker_adapter
from executor.sandbox.config import ContainerRequest, create_body
from executor.sandbox.docker import DockerEngine
from executor.sandbox.outcome import OutcomeKind
from executor.stages import Context, Stages
from executor.transfer.inputs import lay_out_code

pytestmark = pytest.mark.engine
Weakening = Callable[[dict[str, Any]], None]


def attempt(tmp_path: Path, code: str, weaken: Weakening | None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run code in a job's container; return what it reported, or how it failed."""
    name = "weak" if weaken else "sealed"
    folder = tmp_path / name
    for part in ("in", "code", "log"):
        (folder / part).mkdir(parents=True)
    (folder / "main.py").write_text(code)
    job = {
        "apiVersion": "executor/v1",
        "kind": "script",
        "code": {"path": "main.py"},
        "outputs": [{"name": "out.txt", "required": False}],
        "limits": {"wall_seconds": 20, "memory_bytes": 512 << 20, "tmp_bytes": 32 << 20},
    }
    (folder / "job.json").write_text(json.dumps(job))
    prepared = prepare(folder / "job.json", home=Home(tmp_path / "home"))
    assert prepared.code is not None
    lay_out_code(prepared.code, folder / "code")

    def body(request: ContainerRequest) -> dict[str, Any]:
        made = create_body(request)
        if weaken:
            weaken(made)
        return made

    monkeypatch.setattr(docker_adapter, "create_body", body)
    context = Context(home=Home(tmp_path / "home"), engine=DockerEngine())
    run_id = f"escape-{tmp_path.name[-40:]}-{name}"
    image_id = prepared.plan.job.image_id
    stages = Stages(prepared.plan, image_id=image_id, run_id=run_id, folder=folder, context=context, events=Events("r"))
    result, artifacts = stages.run_job(folder / "log")
    if result.outcome.kind is not OutcomeKind.SUCCEEDED:
        return f"failed: {result.outcome.reason}"
    return artifacts[0].path.read_text() if artifacts else "nothing"


def host_config(**change: Any) -> Weakening:
    def weaken(body: dict[str, Any]) -> None:
        body["HostConfig"].update(change)

    return weaken


def unfiltered(body: dict[str, Any]) -> None:
    body["HostConfig"]["SecurityOpt"] = ["no-new-privileges:true", "seccomp=unconfined"]


def root_user(body: dict[str, Any]) -> None:
    body["User"] = "0:0"
    body["HostConfig"].update(ReadonlyRootfs=False)


def with_capabilities(body: dict[str, Any]) -> None:
    body["User"] = "0:0"
    body["HostConfig"].update(CapDrop=[], CapAdd=["SYS_ADMIN"], SecurityOpt=["seccomp=unconfined"])


def with_ptrace(body: dict[str, Any]) -> None:
    body["User"] = "0:0"
    body["HostConfig"].update(CapDrop=[], CapAdd=["SYS_PTRACE"])


def executable_tmp(body: dict[str, Any]) -> None:
    tmpfs = body["HostConfig"]["Tmpfs"]
    tmpfs["/tmp"] = tmpfs["/tmp"].replace("noexec", "exec")


def writable_mounts(body: dict[str, Any]) -> None:
    body["User"] = "0:0"
    for mount in body["HostConfig"]["Mounts"]:
        mount["ReadOnly"] = False


OUT = "\nfrom worker.job import current\ncurrent().output('out.txt', str(result), role='data')\n"
SYSCALL = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
# Copies a library that the image has to a writable place and loads it from there.
LOAD = (
    "import ctypes, shutil\n"
    "shutil.copy('/usr/lib/x86_64-linux-gnu/libz.so.1', {0!r})\n"
    "result = bool(ctypes.CDLL({0!r}))"
)
MEMFD = (
    SYSCALL
    + "fd = os.memfd_create('x')\n"
    + "os.write(fd, open('/usr/lib/x86_64-linux-gnu/libz.so.1', 'rb').read())\n"
    + "result = bool(ctypes.CDLL(f'/proc/self/fd/{fd}'))"
)
SOCKET = "import socket\nresult = socket.socket({family}, socket.SOCK_{kind}).fileno() > 0"


def syscall(number: int, *arguments: str) -> str:
    """Make a system call by number and report success, or raise with its error."""
    call = ", ".join([str(number), *arguments])
    return SYSCALL + (
        f"value = libc.syscall({call})\n"
        "error = ctypes.get_errno()\n"
        "if value < 0: raise OSError(error, os.strerror(error))\n"
        "result = True"
    )


ATTEMPTS = [
    ("write to the root file system", "open('/x', 'w').write('x')\nresult = True", root_user, "Read-only file system"),
    (
        "write to the image's libraries",
        "open('/usr/lib/python3.11/os.py', 'a').write('#')\nresult = True",
        root_user,
        "Permission denied",
    ),
    (
        "write to the job's code on the host",
        "open('/job/new.py', 'w').write('#')\nresult = True",
        writable_mounts,
        "Read-only",
    ),
    ("run as root", "import os\nassert os.getuid() == 0\nresult = True", root_user, "AssertionError"),
    ("make a user namespace", syscall(272, "0x10000000"), unfiltered, "not permitted"),
    (
        "mount a file system",
        syscall(165, "b'none'", "b'/tmp'", "b'tmpfs'", "0", "None"),
        with_capabilities,
        "not permitted",
    ),
    ("load a library from /tmp", LOAD.format("/tmp/x.so"), executable_tmp, "failed to map segment"),
    ("load a library from memory", MEMFD, unfiltered, "not permitted"),
    ("rewrite process 1", "open('/proc/1/mem', 'r+b')\nresult = True", with_ptrace, "Permission denied"),
    ("print through process 1", "open('/proc/1/fd/1', 'w')\nresult = True", with_ptrace, "Permission denied"),
    (
        "lower the limits of process 1",
        syscall(302, "1", "0", "None", "ctypes.create_string_buffer(16)"),
        unfiltered,
        "not permitted",
    ),
    ("trace a process", syscall(101, "0", "0", "0", "0"), unfiltered, "not permitted"),
    ("open an io_uring", syscall(425, "8", "ctypes.create_string_buffer(120)"), unfiltered, "not permitted"),
    ("open a user fault descriptor", syscall(323, "1"), unfiltered, "not permitted"),
    ("ask for a keyring", syscall(250, "0", "-3", "1"), unfiltered, "not permitted"),
    ("open a netlink socket", SOCKET.format(family="16", kind="RAW"), unfiltered, "not permitted"),
    ("open a process descriptor", syscall(434, "os.getpid()", "0"), unfiltered, "not permitted"),
    ("change the personality", syscall(135, "0x0040000"), unfiltered, "not permitted"),
    (
        "use more memory than allowed",
        "block = b'x' * (700 << 20)\nresult = len(block)",
        host_config(Memory=2 << 30, MemorySwap=2 << 30),
        "killed for memory",
    ),
    (
        "start more processes than allowed",
        "import os, time\n"
        "for _ in range(140):\n    if os.fork() == 0:\n        time.sleep(5)\n        os._exit(0)\n"
        "result = True",
        host_config(PidsLimit=400),
        "more processes",
    ),
    (
        "fill the temporary folder",
        "open('/tmp/f', 'wb').write(b'x' * (48 << 20))\nresult = True",
        host_config(Tmpfs={"/tmp": "size=100m"}),
        "No space left",
    ),
    (
        "fill the temporary folder's inodes",
        "for i in range(9000): open(f'/tmp/{i}', 'w').close()\nresult = True",
        host_config(Tmpfs={"/tmp": "nr_inodes=20000"}),
        "No space left",
    ),
    (
        "dump core",
        "import resource\nassert resource.getrlimit(resource.RLIMIT_CORE)[1] != 0\nresult = True",
        host_config(Ulimits=[]),
        "AssertionError",
    ),
]


@pytest.mark.parametrize(("code", "weaken", "reason"), [a[1:] for a in ATTEMPTS], ids=[a[0] for a in ATTEMPTS])
def test_an_attempt_fails_sealed_and_succeeds_weakened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, weaken: Weakening, reason: str
) -> None:
    weak = attempt(tmp_path, code + OUT, weaken, monkeypatch)
    assert not weak.startswith("failed"), f"the attempt proves nothing: {weak}"
    sealed = attempt(tmp_path, code + OUT, None, monkeypatch)
    assert sealed.startswith("failed"), sealed
    assert reason in sealed


@pytest.fixture
def listener() -> Iterator[int]:
    """A server on the host's loopback that a job must not reach."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def accept() -> None:
            with contextlib.suppress(OSError):
                server.accept()[0].close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]


def host_network(body: dict[str, Any]) -> None:
    body["NetworkDisabled"] = False
    body["HostConfig"]["NetworkMode"] = "host"


def test_the_hosts_loopback_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listener: int) -> None:
    code = f"import socket\nsocket.create_connection(('127.0.0.1', {listener}), timeout=5)\nresult = True" + OUT
    assert attempt(tmp_path, code, host_network, monkeypatch) == "True"
    assert "Connection refused" in attempt(tmp_path, code, None, monkeypatch)


def test_the_deadline_in_the_container_cannot_be_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Process 1 survives every signal of the job's: the kernel drops those that it has no handler for."""
    code = "import os, signal\nfor s in (9, 19, 15, 2, 1): os.kill(1, s)\nos.kill(1, 0)\nresult = True" + OUT
    assert attempt(tmp_path, code, None, monkeypatch) == "True"


def test_a_container_of_another_image_is_never_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_image(body: dict[str, Any]) -> None:
        body["Image"] = "sha256:" + "0" * 64

    with pytest.raises(HostError, match="no image"):
        attempt(tmp_path, "result = 1" + OUT, other_image, monkeypatch)
