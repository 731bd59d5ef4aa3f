"""The network of one run's proxy on the real engine: its own, and on it no way but to the run's destinations."""

import functools
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from executor.doctor import checks as doctor_module
from executor.doctor.attempts import ATTEMPTS
from executor.doctor.battery import plan_attempt
from executor.doctor.checks import examine
from executor.doctor.proxies import try_proxies
from executor.egress import network as network_module
from executor.egress import proxy as proxy_module
from executor.egress.destinations import Destination
from executor.egress.network import confine
from executor.egress.proxy import Proxy
from executor.errors import HostError
from executor.job import prepare as prepare_module
from executor.job.admission import admit
from executor.job.plan import EgressPlan
from executor.run.containers import Context
from executor.sandbox.config import ContainerRequest
from executor.sandbox.docker import DockerEngine
from executor.state.home import open_home
from executor.state.owner import home_label, labels_for, sweep
from policy.load import FOLDER, load_policy
from tests.fakes.clock import until
from tests.integration.conftest import Host, raw_engine
from tests.integration.test_egress import PROFILE, write_profile

# Without root the executor cannot change the routes of a proxy, nor a test enter its network.
IS_ROOT = os.geteuid() == 0
PLACES = tuple(Destination(rule="EGRESS-A", host=f"{a}.test", port=80, address=a) for a in ("192.0.2.7", "192.0.2.9"))


@pytest.fixture
def engine() -> DockerEngine:
    return DockerEngine()


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: DockerEngine) -> tuple[EgressPlan, str]:
    """Return the proxy of a profile that has one, and the engine's digest of its image."""
    policy = write_profile(tmp_path, ("mirror.example.test", 80, "10.0.0.1"))
    (policy / "profiles/standard.toml").symlink_to(FOLDER / "profiles/standard.toml")  # which the doctor looks at
    monkeypatch.setattr(prepare_module, "load_policy", functools.partial(load_policy, folder=policy))
    plan = plan_attempt(ATTEMPTS[0], profile=PROFILE, way_out=True)
    image_id = admit(engine, plan).proxy_image_id
    assert plan.egress is not None
    assert image_id is not None
    return plan.egress, image_id


@pytest.fixture
def request_for(home: Path, tmp_path: Path, planned: tuple[EgressPlan, str]) -> ContainerRequest:
    plan, image_id = planned
    run_id = f"test-{secrets.token_hex(4)}"
    return ContainerRequest(
        name=f"sealed-executor-{run_id}-egress",
        config=replace(plan.proxy, image_id=image_id),
        folder=tmp_path / "egress",
        labels=labels_for(open_home(), run_id, wall_seconds=600),
    )


@pytest.fixture
def proxy(engine: DockerEngine, request_for: ContainerRequest, home: Path) -> Iterator[Proxy]:
    users = open_home().users
    one = Proxy(engine, request_for, PLACES, users=users, wall_seconds=600, cancelled=lambda: False)
    try:
        yield one
    finally:
        one.stop()


def networks_of(engine: DockerEngine) -> list[str]:
    return [network.name for network in engine.owned_networks(home_label(open_home()))]


@pytest.mark.skipif(not IS_ROOT, reason="only root may enter the network of a container to try it")
def test_the_proxies_of_two_runs_do_not_reach_one_another(
    planned: tuple[EgressPlan, str], engine: DockerEngine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, image_id = planned
    context = Context(home=open_home(), engine=engine)
    assert try_proxies(plan, image_id=image_id, context=context) is None
    assert networks_of(engine) == []

    # On one network, and with all the routes of it, they do: it is seen.
    shared = f"sealed-executor-test-{secrets.token_hex(4)}"
    raw_engine().create_network(shared, driver="bridge")
    try:
        monkeypatch.setattr(proxy_module, "create_network", lambda *_, **__: None)
        monkeypatch.setattr(proxy_module, "confine", lambda *_, **__: False)
        create = engine.create
        monkeypatch.setattr(engine, "create", lambda request: create(replace(request, network=shared)))
        wrong = try_proxies(plan, image_id=image_id, context=context)
        assert wrong is not None
        assert wrong.startswith("one proxy reaches another's at ")
    finally:
        raw_engine().remove_network(shared)


@pytest.mark.skipif(not IS_ROOT, reason="only root may enter the network of a container to try it")
@pytest.mark.usefixtures("planned", "home")
def test_the_doctor_tries_it_where_a_profile_has_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "run_battery", lambda *_, **__: iter(()))
    said: list[str] = []
    checks = {check.name: check for check in examine(deep=True, profile=PROFILE, say=said.append).checks}
    assert checks["escape: two proxies"].detail == "held"
    assert said == ["the proxies of two runs"]
    monkeypatch.setattr(doctor_module, "try_proxies", lambda *_, **__: "one proxy reaches another's at 10.0.0.2")
    checks = {check.name: check for check in examine(deep=True, profile=PROFILE).checks}
    assert not checks["escape: two proxies"].ok
    assert not any("two proxies" in check.name for check in examine(deep=True, profile="standard").checks)


@pytest.mark.skipif(not IS_ROOT, reason="only root may change the routes of a container")
def test_a_proxy_has_routes_to_its_destinations_alone(
    engine: DockerEngine, proxy: Proxy, request_for: ContainerRequest
) -> None:
    proxy.start()
    state = engine.state(request_for.name)
    (found,) = raw_engine().networks(names=list(state.networks))
    lines = [line.split() for line in Path(f"/proc/{state.pid}/net/route").read_text().splitlines()[1:]]
    routes = {socket.inet_ntoa(bytes.fromhex(line[1])[::-1]) for line in lines}
    assert routes == {place.address for place in PLACES} | {found["IPAM"]["Config"][0]["Subnet"].partition("/")[0]}

    elsewhere = os.open(f"/proc/{state.pid}/ns/net", os.O_RDONLY)
    try:
        with network_module._socket_in(elsewhere, socket.SOCK_DGRAM) as inside:
            inside.connect(("192.0.2.9", 80))
            with pytest.raises(OSError, match="unreachable"):
                inside.connect(("192.0.2.8", 80))
            with pytest.raises(OSError, match="unreachable"):
                inside.connect(("169.254.169.254", 80))
    finally:
        os.close(elsewhere)
    assert proxy.stop().confined


def test_where_its_routes_cannot_be_changed_the_result_says_so(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, engine: DockerEngine, request_for: ContainerRequest
) -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError

    monkeypatch.setattr(network_module, "_socket_in", refuse)
    proxy.start()
    assert len(engine.state(request_for.name).networks) == 1
    assert proxy.stop().to_wire()["confined"] is False
    assert networks_of(engine) == []


def test_another_containers_routes_are_left_alone(
    proxy: Proxy, engine: DockerEngine, request_for: ContainerRequest
) -> None:
    proxy.start()
    table = Path("/proc/self/net/route")
    before = table.read_text()
    assert not confine(os.getpid(), container="0" * 64, addresses=["192.0.2.1"])
    assert table.read_text() == before


def test_the_network_of_a_proxy_that_does_not_come_up_goes_too(
    proxy: Proxy, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> None:
        raise HostError("it does not start")

    monkeypatch.setattr(engine, "start", refuse)
    with pytest.raises(HostError, match="does not start"):
        proxy.start()
    proxy.stop()
    assert networks_of(engine) == []
    assert engine.unremoved() == frozenset()


def test_the_sweep_removes_the_network_of_a_dead_run(engine: DockerEngine, home: Path, host: Host) -> None:
    """A process of its own makes one, with a container on it, and is killed."""
    code = (
        "import sys, time; from executor.state.home import open_home; from executor.sandbox.docker import DockerEngine;"
        "from executor.state.owner import labels_for;"
        "DockerEngine().create_network('sealed-executor-r1-egress-network',"
        "labels=labels_for(open_home(), 'r1', wall_seconds=600), subnet=None);"
        "print('made', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([*host.command()[:1], "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        assert sweep(engine, open_home()) == []
        assert networks_of(engine) == ["sealed-executor-r1-egress-network"]
        process.send_signal(signal.SIGKILL)
    until(lambda: process.poll() is not None)
    assert sweep(engine, open_home()) == ["network sealed-executor-r1-egress-network"]
    assert networks_of(engine) == []


@pytest.fixture
def make(engine: DockerEngine) -> Iterator[Callable[[str | None], bool]]:
    """Make networks that go when the test is over."""
    names: list[str] = []

    def create(subnet: str | None) -> bool:
        names.append(f"sealed-executor-test-{secrets.token_hex(4)}")
        return engine.create_network(names[-1], labels=(), subnet=subnet)

    yield create
    for name in names:
        engine.remove_network(name)


def test_a_subnet_that_is_taken_is_told(make: Callable[[str | None], bool], engine: DockerEngine) -> None:
    assert make("10.213.7.0/30")
    assert not make("10.213.7.0/30")
    assert not make("10.213.7.0/24")
    assert make("10.213.7.4/30")
