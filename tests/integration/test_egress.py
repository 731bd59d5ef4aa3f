"""Network mode `allowlist` on the real engine, with the real proxy: what it lets through, and what it denies."""

import base64
import contextlib
import functools
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from executor.doctor.attempts import ATTEMPTS, Attempt
from executor.doctor.battery import judge, plan_attempt, run_attempt
from executor.egress import proxy as proxy_module
from executor.egress.proxy import Traffic
from executor.egress.squid import configuration
from executor.errors import ImageMismatchError, UnsupportedError
from executor.job import prepare as prepare_module
from executor.job.prepare import prepare
from executor.pool.client import PoolClient
from executor.pool.stock import PoolClass
from executor.pool.supervisor import Pool, PoolSettings
from executor.run.containers import Context
from executor.sandbox.docker import DockerEngine
from executor.state.home import open_home
from images.lock import load_lock
from policy.load import FOLDER, load_policy
from tests.integration.conftest import Host, containers, raw_engine, run_here
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


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    """Return an address that only this machine has, on a network that nothing else is on: where tests are upstream."""
    network = raw_engine().create_network(f"sealed-executor-test-{secrets.token_hex(4)}", driver="bridge")
    try:
        yield str(raw_engine().inspect_network(network["Id"])["IPAM"]["Config"][0]["Gateway"])
    finally:
        raw_engine().remove_network(network["Id"])


@pytest.fixture
def upstream(gateway: str) -> Iterator[int]:
    with serving(gateway) as port:
        yield port


def write_profile(folder: Path, *rules: tuple[str, int, str | None], runtime: str = "runc") -> Path:
    """Write a policy with a profile that allows these hosts, ports and, where given, addresses."""
    policy = folder / "policy"
    (policy / "profiles").mkdir(parents=True, exist_ok=True)
    for part in ("operators", "plugins", "seccomp"):
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
        result = self.execute(job, **context)
        assert result["status"] == "released", json.dumps(result)
        target = Path(result["release"])
        return result, json.loads((target / "artifacts/tried.json").read_text()), target

    def execute(self, job: Path, **context: Any) -> dict[str, Any]:
        return run_here(job, self._host.folder, observers=(self.events.append,), **context)


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
        assert egress["denied"] == len(bad)
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


class Ftp(threading.Thread):
    """An FTP server that sends whoever asks for a file to another port of its machine."""

    def __init__(self, address: str, elsewhere: int) -> None:
        super().__init__(daemon=True)
        self._server = socket.create_server((address, 0))
        self._elsewhere = elsewhere
        self.port = int(self._server.getsockname()[1])

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        answers = {
            "USER": "230 in",
            "TYPE": "200 ok",
            "EPSV": f"229 Entering Extended Passive Mode (|||{self._elsewhere}|)",
            "RETR": "150 here it comes",
        }
        with stream, stream.makefile("rw", newline="\r\n") as lines, contextlib.suppress(OSError):
            lines.write("220 hello\n")
            lines.flush()
            for line in lines:
                lines.write(answers.get(line[:4].strip().upper(), "250 ok") + "\n")
                lines.flush()

    def close(self) -> None:
        self._server.close()


def test_an_ftp_server_cannot_send_the_proxy_elsewhere(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, gateway: str
) -> None:
    """The allowed host speaks FTP and names another port for the file, where something else listens."""
    with contextlib.closing(socket.create_server((gateway, 0))) as elsewhere:
        elsewhere.settimeout(3)
        ftp = Ftp(gateway, elsewhere.getsockname()[1])
        ftp.start()
        runner.use((HOST, ftp.port, gateway))
        ways = {"file": get(f"ftp://{HOST}:{ftp.port}/file", HOST)}
        _, tried, _ = runner.run(runner.job(ways))
        assert status(tried["file"]).startswith("HTTP/1.1 403")
        with pytest.raises(TimeoutError):
            elsewhere.accept()
        monkeypatch.setattr(
            proxy_module,
            "configuration",
            lambda places: configuration(places).replace("http_access deny !spoken !tunnel\n", ""),
        )
        reached = threading.Thread(target=lambda: elsewhere.accept()[0].close())
        elsewhere.settimeout(300)
        reached.start()
        runner.run(runner.job(ways))
        reached.join(60)
        assert not reached.is_alive(), "without the rule nothing was reached either: the test proves nothing"
        ftp.close()


def test_whatever_is_refused_is_counted(runner: Runner, gateway: str, upstream: int) -> None:
    runner.use((HOST, upstream, gateway))
    plain = "Host: a\r\nConnection: close\r\n"
    ways = {
        "a long name of odd characters": get(f"http://{'%' * 120}.evil.test/", "a"),
        "bytes that are no text": get(f"http://{chr(255) * 120}.evil.test/", "a"),
        "a tunnel to such a name": connect(f"{'%' * 120}.evil.test:443"),
        "no hops left": ["raw", [f"OPTIONS http://evil.test/ HTTP/1.1\r\n{plain}Max-Forwards: 0\r\n\r\n"]],
        "another coding": get("http://evil.test/", "a", "Transfer-Encoding: gzip"),
        "an expectation": get("http://169.254.169.254/", "a", "Expect: x"),
        "another scheme": get(f"gopher://{HOST}:1/", "a"),
        "a long path": get("http://evil.test/" + "a" * 9000, "a"),
        "another version": ["raw", [f"GET http://evil.test/ HTTP/3.0\r\n{plain}\r\n"]],
        "a long header": get("http://evil.test/", "a", "X: " + "a" * 70000),
        "a static page of the proxy's": get("http://evil.test/squid-internal-static/icons/SN.png", "a"),
        "one label": get("http://localhost/", "a"),
    }
    result, tried, _ = runner.run(runner.job(ways))
    assert [name for name, answer in tried.items() if " 200 " in status(answer)] == []
    egress = result["egress"]
    assert (egress["allowed"], egress["denied"], egress["complete"]) == (0, len(ways), True)
    counted = {(row["host"], row["port"]): row["count"] for row in egress["denials"]}
    assert counted["169.254.169.254", 80] == counted["localhost", 80] == 1
    assert sum(counted.values()) == len(ways)


def test_a_job_cannot_shout_its_denials_down(runner: Runner, gateway: str, upstream: int) -> None:
    runner.use((HOST, upstream, gateway))
    ways = {"metadata": get("http://169.254.169.254/latest/", "a"), "noise": ["shout", 3.5]}
    result, tried, _ = runner.run(runner.job(ways))
    assert (tried["noise"], status(tried["metadata"])[:12]) == ("shouted", "HTTP/1.1 403")
    egress = result["egress"]
    counted = {(row["host"], row["port"]): row["count"] for row in egress["denials"]}
    assert counted["169.254.169.254", 80] == 1
    assert counted["noise.example.test", 80] > 100
    assert egress["complete"] is True


@pytest.mark.parametrize("retries", [False, True])
def test_a_proxy_that_is_killed_is_the_hosts_fault(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, gateway: str, upstream: int, retries: bool
) -> None:
    """A job that bears it goes on, and its counts are not complete; one that fails of it has not failed by itself."""
    runner.use((HOST, upstream, gateway))
    ways = {
        "before": connect("169.254.169.254:80"),
        "meanwhile": ["wait until it is gone", 120],
        "after": connect(f"{HOST}:{upstream}"),
    }
    job = runner.job(ways | ({} if retries else {"fail": ["fail", ""]}))
    engine = raw_engine()

    def kill() -> None:
        for _ in range(600):
            time.sleep(0.1)
            if any(event["event"] == "progress" for event in runner.events):  # the first request has been denied
                assert reported.wait(300)
                (name,) = [name for name in containers().split() if name.endswith("-egress")]
                engine.kill(name)
                return

    def parse_traffic(message: Mapping[str, Any]) -> Traffic:
        traffic = original(message)
        if traffic.denied:
            reported.set()
        return traffic

    original, reported = proxy_module.parse_traffic, threading.Event()
    monkeypatch.setattr(proxy_module, "parse_traffic", parse_traffic)
    killer = threading.Thread(target=kill)
    killer.start()
    result = runner.execute(job)
    killer.join()
    assert result["egress"]["complete"] is False
    assert result["egress"]["fault"] == "its container was ended by signal 9"
    assert result["egress"]["denied"] == 1  # reported before it died
    assert result["status"] == ("released" if retries else "host_fault")
    assert result["outcome"]["fault"] == (None if retries else "host")
    assert containers() == ""


def test_a_proxy_that_is_paused_does_not_hold_up_the_end(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, gateway: str, upstream: int
) -> None:
    runner.use((HOST, upstream, gateway))
    original, waited = proxy_module.Proxy.stop, []

    def stop(proxy: proxy_module.Proxy) -> proxy_module.Traffic:
        (name,) = [name for name in containers().split() if name.endswith("-egress")]
        raw_engine().pause(name)
        began = time.monotonic()
        traffic = original(proxy)
        waited.append(time.monotonic() - began)
        return traffic

    monkeypatch.setattr(proxy_module.Proxy, "stop", stop)
    result = runner.execute(runner.job({"before": connect("169.254.169.254:80")}))
    assert (result["egress"]["complete"], result["egress"]["fault"]) == (False, "its container was paused")
    assert waited[0] < 15, "the twenty seconds in which it may answer were not waited for"
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


@pytest.mark.parametrize("attempt", [a for a in ATTEMPTS if a.family in ("network", "process")], ids=lambda a: a.name)
def test_the_sandbox_holds_no_less_with_a_way_out(runner: Runner, attempt: Attempt) -> None:
    """The battery's attempts on the network and on other processes, in a container with the relay in it."""
    runner.use((HOST, 80, "10.0.0.1"))
    plan = plan_attempt(attempt, profile=PROFILE)
    assert plan.job.network == "allowlist"
    context = Context(home=open_home(), engine=DockerEngine())
    result, sent = run_attempt(attempt, plan, image_id=plan.job.image_id, context=context)
    assert judge(attempt, result, sent) is None


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
