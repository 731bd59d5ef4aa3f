"""What host and worker must agree on about the way out."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from executor.egress.proxy import parse_traffic
from executor.egress.squid import PROXY_PORT, configuration
from executor.sandbox.config import EGRESS_SOCKET, MOUNTS, ContainerRequest, create_body
from tests.unit.executor.job.test_plan import plan

relay: Any = import_module("worker.relay")
egress: Any = import_module("worker.procedures.egress")


def test_both_sides_name_the_same_socket_and_port() -> None:
    assert dict(MOUNTS)["socket"] + "/" + EGRESS_SOCKET == relay.EGRESS_SOCKET
    assert relay.PORT == PROXY_PORT
    config = replace(plan().job, network="allowlist")
    env = create_body(ContainerRequest(name="n", config=config, folder=Path("/f"), labels=(), user=1))["Env"]
    assert f"HTTP_PROXY=http://127.0.0.1:{relay.PORT}" in env
    assert f"http_port 127.0.0.1:{relay.PORT}" in configuration(())


def test_the_host_takes_every_report_that_the_worker_can_make() -> None:
    tally = egress.Tally()
    for number in range(300):
        tally.take(f"TCP_DENIED 403 - {'%FF' * 200}{number}.test {number}")
        tally.take(f"TCP_DENIED 403 - h{number}.test {number * 1000}")
    tally.take("TCP_MISS 200 10.0.0.1 a.test 80")
    traffic = parse_traffic(tally.to_wire())
    assert (traffic.allowed, traffic.denied, sum(traffic.denials.values())) == (1, 600, 600)
    assert traffic.denials[egress.OTHERS] > 0


def test_the_log_that_squid_writes_has_the_fields_that_the_worker_counts_by() -> None:
    assert "logformat egress %Ss %>Hs %<a %#>rd %>rP" in configuration(())
