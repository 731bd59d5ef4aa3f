"""What the seal is, measured from inside by a probe: capabilities, privileges, system calls, sockets, mounts."""

import json
from pathlib import Path
from typing import Any

import pytest

from executor.doctor.attempts import Attempt
from executor.doctor.battery import plan_attempt, run_attempt
from executor.run.containers import Context
from executor.sandbox import docker as docker_adapter
from executor.sandbox.config import ContainerRequest, create_body
from executor.sandbox.docker import DockerEngine
from executor.sandbox.users import DEFAULT
from executor.state.home import Home
from tests.escape.weakenings import unfiltered_body

pytestmark = pytest.mark.engine
EPERM, ENOSYS = 1, 38
UNIX, INET, INET6, NETLINK = 1, 2, 10, 16

# Asks for every system call by number with arguments that no call accepts, each in a process of its own: some never
# return, some end it, and a call that is filtered answers EPERM before the kernel looks at any argument.
PROBE = """
import ctypes, json, os, signal
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
calls = {}
for number in range(470):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(2)
        value = libc.syscall(number, *[ctypes.c_long(-1)] * 6)
        os.write(writer, b'%d' % (ctypes.get_errno() if value == -1 else 0))
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 16)
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    calls[number] = int(said) if said else None
families = {}
for family in range(46):
    answers = set()
    for kind in (1, 2, 3, 4, 5):
        value = libc.socket(family, kind, 0)
        answers.add(ctypes.get_errno() if value < 0 else 0)
        if value >= 0: os.close(value)
    families[family] = sorted(answers)
status = dict(l.split(':\\t') for l in open('/proc/self/status').read().splitlines() if ':\\t' in l)
result = json.dumps({
    'calls': calls,
    'families': families,
    'mounts': open('/proc/self/mountinfo').read(),
    'status': status,
    'interfaces': [l.split(':')[0].strip() for l in open('/proc/net/dev') if ':' in l],
    'environment': dict(os.environ),
})
"""


def probe(home: Path) -> dict[str, Any]:
    attempt = Attempt(name="probe", family="probe", code=PROBE, reasons=())
    plan, context = plan_attempt(attempt), Context(home=Home(home), engine=DockerEngine())
    result, sent = run_attempt(attempt, plan, image_id=plan.job.image_id, context=context)
    assert sent, result.outcome.reason
    document: dict[str, Any] = json.loads(sent)
    return document


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return probe(tmp_path_factory.mktemp("probe") / "home")


def test_it_has_no_capability_and_cannot_gain_any(seen: dict[str, Any]) -> None:
    status = seen["status"]
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    (user,) = set(status["Uid"].split()) | set(status["Gid"].split())
    assert DEFAULT.first <= int(user) <= DEFAULT.last
    assert status["Groups"].split() in ([], [user])


def test_at_least_130_system_calls_are_blocked(seen: dict[str, Any]) -> None:
    blocked = [number for number, error in seen["calls"].items() if error in (EPERM, ENOSYS)]
    assert len(blocked) >= 130, sorted(map(int, blocked))


def test_what_is_blocked_is_blocked_by_the_filter(
    seen: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it far fewer are: those for which the kernel itself wants a capability, and those it does not have."""

    def unfiltered(request: ContainerRequest) -> dict[str, Any]:
        body = create_body(request)
        unfiltered_body(body)
        return body

    monkeypatch.setattr(docker_adapter, "create_body", unfiltered)
    open_calls = probe(tmp_path / "home")["calls"]
    newly = [n for n, e in seen["calls"].items() if e == EPERM and open_calls[n] not in (EPERM, ENOSYS)]
    assert len(newly) >= 60
    let_through = [n for n, e in open_calls.items() if e in (EPERM, ENOSYS) and seen["calls"][n] not in (EPERM, ENOSYS)]
    assert let_through == []


def test_no_socket_family_but_four_reaches_the_kernel(seen: dict[str, Any]) -> None:
    reached = {int(family) for family, answers in seen["families"].items() if answers != [EPERM]}
    assert reached == {UNIX, INET, INET6}  # and not even NETLINK
    assert reached <= {UNIX, INET, INET6, NETLINK}


def test_every_mount_that_can_be_written_to_runs_nothing(seen: dict[str, Any]) -> None:
    for line in seen["mounts"].splitlines():
        fields = line.split()
        place, options = fields[4], fields[5].split(",")
        if "rw" in options and not place.startswith("/proc"):
            assert {"noexec", "nosuid"} <= set(options) or place == "/dev", line
    assert {"/", "/in", "/job", "/run/executor"} <= {
        line.split()[4] for line in seen["mounts"].splitlines() if "ro" in line.split()[5].split(",")
    }


def test_it_has_no_network_interface_but_loopback(seen: dict[str, Any]) -> None:
    # A kernel may put fallback devices of its tunnels into every namespace; none of them is up or has an address.
    assert "lo" in seen["interfaces"]
    assert not [name for name in seen["interfaces"] if name.startswith(("eth", "veth", "docker", "br-"))]


def test_it_sees_nothing_of_the_hosts_environment(seen: dict[str, Any]) -> None:
    environment = seen["environment"]
    assert environment["LD_PRELOAD"] == ""
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "EXECUTOR_HOME" not in environment
