"""Network mode `allowlist` on the real engine, with the real proxy: what it lets through, and what it denies."""

import base64
import contextlib
import functools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from executor import prepare as prepare_module
from executor.egress import proxy as proxy_module
from executor.egress.squid import configuration
from executor.errors import ImageMismatchError, UnsupportedError
from executor.events import Events
from executor.home import open_home
from executor.pipeline import Run, new_run_id
from executor.pool.client import PoolClient
from executor.pool.stock import PoolClass
from executor.pool.supervisor import Pool, PoolSettings
from executor.prepare import prepare
from executor.sandbox.config import EGRESS_NETWORK
from executor.sandbox.docker import DockerEngine
from executor.stages import Context
from images.lock import load_lock
from policy.load import FOLDER, load_policy
from tests.integration.conftest import Host, containers, raw_engine
from tests.integration.test_runtimes import need

HOST = "mirror.example.test"
PROFILE = "reaching-out"


class Upstream(BaseHTTPRequestHandler):
    """Says which host it was asked as."""

    def do_GET(self) -> None:
        body = f"upstream as {self.headers['Host']} for {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving(address: str) -> Iterator[int]:
    with ThreadingHTTPServer((address, 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def gateway() -> str:
    """Return the address that this machine has on the proxy's network: the one place where a test can be upstream."""
    DockerEngine().ensure_network(EGRESS_NETWORK)
    network = raw_engine().inspect_network(EGRESS_NETWORK)
    return str(network["IPAM"]["Config"][0]["Gateway"])


@pytest.fixture
def upstream(gateway: str) -> Iterator[int]:
    with serving(gateway) as port:
        yield port


def write_profile(folder: Path, *rules: tuple[str, int, str | None], runtime: str = "runc") -> Path:
    """Write a policy with a profile that allows these hosts, ports and, where given, addresses."""
    policy = folder / "policy"
    (policy / "profiles").mkdir(parents=True, exist_ok=True)
    for part in ("operators", "seccomp"):
        if not (policy / part).exists():
            (policy / part).symlink_to(FOLDER / part)
    head, rest = (FOLDER / "profiles/standard.toml").read_text().split("\n[replay]", 1)
    head = head.replace('"standard"', f'"{PROFILE}"').replace('network = "none"', 'network = "allowlist"')
    text = head.replace('runtime = "runc"', f'runtime = "{runtime}"') + "\n[replay]" + rest
    for number, (host, port, address) in enumerate(rules):
        text += f'\n[[egress]]\nid = "EGRESS-N{number}"\nhost = "{host}"\nport = {port}\n'
        text += f'address = "{address}"\n' if address else ""
        text += 'reason = "What the tests reach"\nreviewer = "security-review"\nreviewed = 2026-11-24\n'
    (policy / "profiles" / f"{PROFILE}.toml").write_text(text)
    return policy


class Runner:
    """Runs jobs in this process, under a policy of the test's own."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self._host = host
        self._monkeypatch = monkeypatch
        self.events: list[dict[str, Any]] = []

    def use(self, *rules: tuple[str, int, str | None], runtime: str = "runc") -> None:
        policy = write_profile(self._host.folder, *rules, runtime=runtime)
        self._monkeypatch.setattr(prepare_module, "load_policy", functools.partial(load_policy, folder=policy))

    def job(self, ways: dict[str, Any]) -> Path:
        return self._host.script_job(
            "egress",
            {"name": "tried.json", "role": "report"},
            profile=PROFILE,
            params={"ways": ways},
            limits={"pids": 192},  # gVisor's own threads count as well: 56 were seen
        )

    def run(self, job: Path, **context: Any) -> tuple[dict[str, Any], dict[str, str], Path]:
        """Return the result, what the job sent, and the release."""
        home, run_id = open_home(), new_run_id()
        target = self._host.folder / f"release-{run_id}"
        run = Run(
            prepare(job, home=home),
            run_id=run_id,
            target=target,
            context=Context(home=home, engine=DockerEngine(), **context),
            events=Events(run_id, (self.events.append,)),
        )
        result = run.execute()
        assert result["status"] == "released", json.dumps(result)
        return result, json.loads((target / "artifacts/tried.json").read_text()), target


@pytest.fixture
def runner(host: Host, monkeypatch: pytest.MonkeyPatch) -> Runner:
    return Runner(host, monkeypatch)


def provenance_of(release: Path) -> dict[str, Any]:
    for bundle in release.rglob("*.sigstore.json"):
        statement = json.loads(base64.b64decode(json.loads(bundle.read_text())["dsseEnvelope"]["payload"]))
        if statement["predicateType"] == "https://slsa.dev/provenance/v1":
            return dict(statement["predicate"])
    raise AssertionError("the release has no provenance")


def get(url: str, host: str, *more: str) -> list[Any]:
    head = "\r\n".join([f"GET {url} HTTP/1.1", f"Host: {host}", "Connection: close", *more])
    return ["raw", [f"{head}\r\n\r\n"]]


def connect(place: str, *then: str) -> list[Any]:
    return ["raw", [f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n", *then]]


def hostile(gateway: str, port: int, other: int) -> dict[str, list[Any]]:
    """Ways to somewhere else than the one place that is allowed; each must be denied."""
    number = int.from_bytes(bytes(int(part) for part in gateway.split(".")), "big")
    return {
        "another host": get(f"http://other.example.test:{port}/", "other.example.test"),
        "another port": get(f"http://{HOST}:{other}/", HOST),
        "a tunnel to another port": connect(f"{HOST}:{other}"),
        "a tunnel to another host": connect("other.example.test:443"),
        "the address itself": get(f"http://{gateway}:{port}/", HOST),
        "a tunnel to the address": connect(f"{gateway}:{port}"),
        "the address as a number": get(f"http://{number}:{port}/", HOST),
        "the address as IPv6": connect(f"[::ffff:{gateway}]:{port}"),
        "metadata": get("http://169.254.169.254/latest/meta-data/", "169.254.169.254"),
        "a tunnel to metadata": connect("169.254.169.254:80"),
        "metadata by name": get("http://metadata.google.internal/", "metadata.google.internal"),
        "the proxy itself": get("http://127.0.0.1:3128/", "127.0.0.1:3128"),
        "the proxy's own machine": connect("localhost:3128"),
        "the cache manager": get("cache_object://localhost/info", "localhost"),
        "the cache manager by path": get(f"http://{HOST}:3128/squid-internal-mgr/info", HOST),
        "a longer name": get(f"http://evil.{HOST}:{port}/", HOST),
        "a name that begins so": get(f"http://{HOST}.evil.test:{port}/", HOST),
        "a name before an address": get(f"http://{HOST}@{gateway}:{port}/", HOST),
        "a file": get("file:///etc/passwd", HOST),
        "another scheme": get(f"ftp://{HOST}:{other}/", HOST),
    }


def status(answer: str) -> str:
    return answer.partition("\r\n")[0]


def is_denied(answer: str) -> bool:
    """Whether squid refused: by its rules, or because it takes no such request. A failure to connect is no denial."""
    return status(answer).startswith(("HTTP/1.1 403", "HTTP/1.1 400"))


def test_a_job_reaches_the_allowed_host_and_nothing_else(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, gateway: str, upstream: int
) -> None:
    with serving(gateway) as other:
        runner.use((HOST, upstream, gateway))
        bad = hostile(gateway, upstream, other)
        inner = f"GET /inside HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        good = {
            "plain": get(f"http://{HOST}:{upstream}/data", f"{HOST}:{upstream}"),
            "upper case": get(f"http://{HOST.upper()}:{upstream}/case", HOST),
            "tunnel": connect(f"{HOST}:{upstream}", inner),
            "library": ["library", f"http://{HOST}:{upstream}/library"],
            "another Host header": get(f"http://{HOST}:{upstream}/fronted", "other.example.test"),
        }
        around = {
            "directly": ["direct", [gateway, upstream]],
            "directly to the world": ["direct", ["93.184.215.14", 80]],
            "a lookup": ["lookup", HOST],
            "a lookup of a secret": ["lookup", "secret.evil.test"],
        }
        result, tried, target = runner.run(runner.job(good | bad | around))

        for name in good:
            assert f"upstream as {HOST}" in tried[name], (name, tried[name])
        assert "other.example.test" not in tried["another Host header"]
        assert {name: status(tried[name]) for name in bad if not is_denied(tried[name])} == {}
        for name in around:
            assert tried[name].startswith(("OSError", "gaierror")), (name, tried[name])

        egress = result["egress"]
        place = {"rule": "EGRESS-N0", "host": HOST, "port": upstream, "address": gateway}
        assert egress["destinations"] == [place]
        assert egress["complete"] is True
        assert egress["allowed"] == len(good)
        assert egress["denied"] >= len(bad) - 2  # what is no request at all may be counted as an error
        counted = {(row["host"], row["port"]): row["count"] for row in egress["denials"]}
        assert counted["169.254.169.254", 80] == 2
        assert counted[HOST, other] >= 2
        record = json.loads(Path(result["record"]).read_text())
        assert record["egress"] == egress
        assert record["plan"]["egress"]["rules"][0]["host"] == HOST
        assert record["plan"]["inspection"]["network"] == "none"
        provenance = provenance_of(target)
        assert ":network-allowlist:" in provenance["runDetails"]["builder"]["id"]
        assert {"name": "egress", "annotations": egress} in provenance["runDetails"]["byproducts"]
        assert [event["denied"] for event in runner.events if event["event"] == "egress"] == [egress["denied"]]
        assert containers() == ""
        assert list((open_home().root / "run").iterdir()) == []

        # The same against a proxy whose last rule lets everything pass: it was the rules that denied them.
        monkeypatch.setattr(
            proxy_module,
            "configuration",
            lambda places: configuration(places).replace("deny all\nhttp_port", "allow all\nhttp_port"),
        )
        names = ("another port", "a tunnel to another port", "the address itself", "a tunnel to the address")
        open_ways = {name: bad[name] for name in (*names, "a name before an address")}
        _, weakened, _ = runner.run(runner.job(open_ways))
        assert [n for n in open_ways if " 200 " not in status(weakened[n])] == []


def test_each_condition_of_a_rule_counts(runner: Runner, gateway: str, upstream: int) -> None:
    """Port and host of two rules do not mix."""
    with serving(gateway) as other:
        runner.use((HOST, upstream, gateway), ("second.example.test", other, gateway))
        crossed = {
            "first": get(f"http://{HOST}:{upstream}/", HOST),
            "second": get(f"http://second.example.test:{other}/", HOST),
            "first host, second port": get(f"http://{HOST}:{other}/", HOST),
            "second host, first port": get(f"http://second.example.test:{upstream}/", HOST),
        }
        _, tried, _ = runner.run(runner.job(crossed))
        assert {name: status(answer)[:12] for name, answer in tried.items()} == {
            "first": "HTTP/1.1 200",
            "second": "HTTP/1.1 200",
            "first host, second port": "HTTP/1.1 403",
            "second host, first port": "HTTP/1.1 403",
        }


def test_a_job_that_floods_the_way_out_hurts_itself_alone(runner: Runner, gateway: str, upstream: int) -> None:
    runner.use((HOST, upstream, gateway))
    ways = {"flood": ["flood", 600], "after it": get(f"http://{HOST}:{upstream}/", HOST)}
    result, tried, _ = runner.run(runner.job(ways))
    assert tried["flood"] == "opened 600"
    assert f"upstream as {HOST}" in tried["after it"]
    assert result["egress"]["complete"] is True
    assert containers() == ""


@pytest.mark.parametrize("answer", ["127.0.0.1", "169.254.169.254", "10.0.0.1"])
def test_a_name_that_turns_out_to_be_private_stops_the_run_before_it_starts(
    runner: Runner, gateway: str, answer: str
) -> None:
    runner.use((HOST, 80, None))
    with pytest.raises(UnsupportedError, match=HOST) as raised:
        runner.run(runner.job({}), lookup=lambda _: [answer])
    record = json.loads(Path(raised.value.record).read_text())
    assert record["release"] is None
    assert containers() == ""


def test_a_name_is_looked_up_once_whatever_its_server_says_later(runner: Runner, gateway: str, upstream: int) -> None:
    """DNS rebinding: the second answer is never asked for, and the first one is what squid connects to."""
    answers = iter(["93.184.215.14", gateway])
    runner.use((HOST, upstream, None))
    ways = {"try": get(f"http://{HOST}:{upstream}/", HOST)}
    result, tried, _ = runner.run(runner.job(ways), lookup=lambda _: [next(answers)])
    assert result["egress"]["destinations"][0]["address"] == "93.184.215.14"
    assert next(answers) == gateway
    assert "upstream as" not in json.dumps(tried)


@pytest.mark.parametrize("runtime", ["crun", "runsc"])
def test_the_way_out_is_there_under_every_runtime(runner: Runner, gateway: str, upstream: int, runtime: str) -> None:
    need(runtime)
    runner.use((HOST, upstream, gateway), runtime=runtime)
    ways = {
        "allowed": get(f"http://{HOST}:{upstream}/", HOST),
        "denied": connect("169.254.169.254:80"),
        "direct": ["direct", [gateway, upstream]],
    }
    result, tried, _ = runner.run(runner.job(ways))
    assert f"upstream as {HOST}" in tried["allowed"]
    assert is_denied(tried["denied"])
    assert tried["direct"].startswith("OSError")
    assert (result["egress"]["allowed"], result["egress"]["denied"]) == (1, 1)


def test_a_warm_container_has_the_way_out_too(runner: Runner, gateway: str, upstream: int) -> None:
    runner.use((HOST, upstream, gateway))
    job = runner.job({"allowed": get(f"http://{HOST}:{upstream}/", HOST)})
    home = open_home()
    plan = prepare(job, home=home).plan
    classes = [PoolClass(kind=plan.kind, config=plan.job, size=1)]
    settings = PoolSettings(lease_seconds=600, starts_max=1)
    pool = Pool(DockerEngine(), home, classes, settings=settings, say=lambda _: None)
    thread = threading.Thread(target=pool.run)
    thread.start()
    try:
        while pool.status()["classes"][0]["ready"] < 1:
            thread.join(0.2)
            assert thread.is_alive()
        client = PoolClient(home, DockerEngine(), wall_seconds=600)
        result, tried, _ = runner.run(job, pool=client)
    finally:
        pool.stop()
        thread.join()
    assert result["sandbox"]["warm"] is True
    assert f"upstream as {HOST}" in tried["allowed"]
    assert containers() == ""


def test_a_job_without_the_proxys_image_is_refused_and_told_what_to_do(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.use((HOST, 80, "10.0.0.1"))
    original = DockerEngine.image
    wanted = load_lock("egress").expect
    absent = (wanted.image_id, wanted.manifest)
    monkeypatch.setattr(DockerEngine, "image", lambda self, i: None if i in absent else original(self, i))
    with pytest.raises(ImageMismatchError) as raised:
        runner.run(runner.job({}))
    assert raised.value.hint == "load it: executor image load egress"


def test_another_network_of_that_name_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, name = DockerEngine(), "sealed-executor-test-of-a-name"
    network = raw_engine().create_network(name)
    try:
        with pytest.raises(UnsupportedError, match=name):
            engine.ensure_network(name)
    finally:
        raw_engine().remove_network(network["Id"])
    engine.ensure_network(name)
    try:
        engine.ensure_network(name)
        (made,) = raw_engine().networks(names=[name])
        assert made["Driver"] == "bridge"
        assert made["Options"] == {"com.docker.network.bridge.enable_icc": "false"}
    finally:
        raw_engine().remove_network(name)
