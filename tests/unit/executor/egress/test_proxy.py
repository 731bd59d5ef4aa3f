"""The proxy's container as the host sees it: started, served, drained, stopped, and not believed."""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.egress.destinations import Destination
from executor.egress.proxy import Proxy, Traffic, parse_traffic
from executor.errors import Cancelled, HostError, JobError
from executor.sandbox.config import ContainerRequest, create_body
from images.lock import load_lock
from tests.fakes.clock import until
from tests.fakes.engine import FakeEngine, Worker
from tests.unit.executor.job.test_plan import plan

PLACES = (Destination(rule="EGRESS-A", host="a.example.org", port=443, address="93.184.215.14"),)
REPORT = {"type": "egress", "allowed": 3, "denied": 2, "denials": [["b.example.org", 443, 2]]}


def proxy(engine: FakeEngine, folder: Path, *, cancelled: Callable[[], bool] = lambda: False) -> Proxy:
    config = replace(plan().job, network="egress", image_id=load_lock("cpu").expect.image_id)
    request = ContainerRequest(name="p", config=config, folder=folder / "egress", labels=())
    return Proxy(engine, request, PLACES, users=folder / "users.lock", wall_seconds=60, cancelled=cancelled)


def receive_socket(worker: Worker) -> socket.socket:
    _, descriptors, _, _ = socket.recv_fds(worker.control, 1, 1)
    return socket.socket(fileno=descriptors[0])


def behave(worker: Worker) -> None:
    """Do as the image's worker does: answer one connection, report, and end when told to."""
    worker.say(type="listening")
    with receive_socket(worker) as listener:
        listener.settimeout(60)
        with listener.accept()[0] as stream:
            stream.sendall(b"hello")
    worker.say(**REPORT)
    assert worker.control.recv(1) == b"E"
    worker.finish()


def connect(folder: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(60)
        stream.connect(str(folder / "egress.sock"))
        return stream.recv(100)


def test_a_job_reaches_what_the_proxy_serves_and_its_counts_come_back(tmp_path: Path) -> None:
    engine = FakeEngine(behave)
    one = proxy(engine, tmp_path)
    one.start()
    assert list(engine.networks) == ["p-network"]
    assert create_body(engine.requests[0])["HostConfig"]["NetworkMode"] == "p-network"
    (worker,) = engine.workers.values()
    assert worker.launch["kind"] == "egress"
    assert "acl host0 dstdomain -n a.example.org" in worker.launch["params"]["config"]
    (tmp_path / "socket").mkdir()
    one.serve(tmp_path / "socket")
    assert connect(tmp_path / "socket") == b"hello"
    assert one.stop() == Traffic(allowed=3, denied=2, denials={("b.example.org", 443): 2}, complete=True)
    assert engine.containers == {}
    assert engine.networks == {}
    assert one.stop() == Traffic(allowed=3, denied=2, denials={("b.example.org", 443): 2})  # nothing is left to stop
    assert one.has_ended


def die(worker: Worker) -> None:
    worker.stderr.sendall(b"FATAL: no such thing\n")
    worker.exit(1)


def stay_silent(worker: Worker) -> None:
    worker.killed.wait(120)


def lie(worker: Worker) -> None:
    worker.say(type="listening")
    receive_socket(worker).close()
    worker.say(type="egress", allowed=-1, denied=0, denials=[])
    worker.killed.wait(120)


def test_a_proxy_that_does_not_come_up_fails_the_run_with_its_own_words(tmp_path: Path) -> None:
    engine = FakeEngine(die)
    one = proxy(engine, tmp_path)
    with pytest.raises(HostError, match="no such thing"):
        one.start()
    one.stop()
    assert engine.containers == {}


def test_a_proxy_that_is_cancelled_while_it_comes_up_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.egress.proxy._END_SECONDS_MAX", 0.3)
    engine = FakeEngine(stay_silent)
    one = proxy(engine, tmp_path, cancelled=lambda: engine.workers != {})
    with pytest.raises(Cancelled):
        one.start()
    one.stop()
    assert engine.containers == {}


def test_a_proxy_that_says_nothing_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.egress.proxy._UP_SECONDS_MAX", 0.3)
    monkeypatch.setattr("executor.egress.proxy._END_SECONDS_MAX", 0.3)
    engine = FakeEngine(stay_silent)
    one = proxy(engine, tmp_path)
    with pytest.raises(HostError, match="it said nothing"):
        one.start()
    assert one.stop().complete is False
    assert engine.containers == {}


def die_later(worker: Worker) -> None:
    worker.say(type="listening")
    receive_socket(worker).close()
    worker.say(**REPORT)
    worker.exit(1)


def flood_messages(worker: Worker) -> None:
    worker.say(type="listening")
    receive_socket(worker).close()
    for _ in range(30_000):
        worker.say()


def flood_text(worker: Worker) -> None:
    worker.say(type="listening")
    receive_socket(worker).close()
    worker.stdout.sendall(bytes(2 << 20))
    worker.killed.wait(120)


@pytest.mark.parametrize(
    ("script", "denied", "fault"),
    [
        (lie, 0, "malformed"),
        (die_later, 2, "it said nothing"),
        (flood_messages, 0, "20000 messages"),
        (flood_text, 0, "1048576 bytes"),
    ],
)
def test_counts_of_a_proxy_that_broke_are_not_complete(
    tmp_path: Path, script: Callable[[Worker], None], denied: int, fault: str
) -> None:
    engine = FakeEngine(script)
    one = proxy(engine, tmp_path)
    one.start()
    (tmp_path / "socket").mkdir()
    one.serve(tmp_path / "socket")
    until(lambda: one.has_ended)
    traffic = one.stop()
    assert (traffic.denied, traffic.complete) == (denied, False)
    assert fault in traffic.fault
    assert engine.containers == {}


@pytest.mark.parametrize(
    "change",
    [
        {"allowed": None},
        {"allowed": "3"},
        {"allowed": True},
        {"allowed": -1},
        {"denied": 1 << 53},
        {"denied": 1.5},
        {"denials": None},
        {"denials": {}},
        {"denials": [["a", n, 1] for n in range(101)]},
        {"denials": [["a", 1, 1], ["a", 1, 2]]},
        {"denials": [["a", True, 1]]},
        {"denials": [["a", 1, True]]},
        {"denials": [["a", 1]]},
        {"denials": [["a", 1, 1, 1]]},
        {"denials": [["", 1, 1]]},
        {"denials": [["a" * 254, 1, 1]]},
        {"denials": [["a\x1b[2J", 1, 1]]},
        {"denials": [["é", 1, 1]]},
        {"denials": [[1, 1, 1]]},
        {"denials": [["a", 65536, 1]]},
        {"denials": [["a", "1", 1]]},
        {"denials": [["a", 1, -1]]},
        {"denials": ["abc"]},
    ],
)
def test_a_report_that_is_not_one_is_refused(change: dict[str, Any]) -> None:
    parse_traffic(REPORT)
    parse_traffic(REPORT | {"denials": [["a" * 253, 65535 - n, (1 << 53) - 1] for n in range(100)]})
    with pytest.raises(JobError):
        parse_traffic(REPORT | change)


def test_the_proxys_container_is_sealed_as_a_jobs_is_but_for_its_network() -> None:
    job = plan().job
    bodies = [
        create_body(ContainerRequest(name="n", config=replace(job, network=n), folder=Path("/f"), labels=(), user=1))
        for n in ("none", "allowlist", "egress")
    ]
    none, allowlist, egress = bodies
    assert allowlist["HostConfig"] == none["HostConfig"]
    assert [key for key in none if none[key] != allowlist[key]] == ["Env"]
    assert set(allowlist["Env"]) - set(none["Env"]) == {
        f"{name}=http://127.0.0.1:3128" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    }
    assert {key for key in none if none[key] != egress[key]} == {"NetworkDisabled", "HostConfig"}
    changed = {key for key in none["HostConfig"] if none["HostConfig"][key] != egress["HostConfig"][key]}
    assert changed == {"NetworkMode", "Sysctls"}  # connections to other machines need larger buffers
    assert len({replace(job, network=n).digest for n in ("none", "allowlist", "egress")}) == 3
