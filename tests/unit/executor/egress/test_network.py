"""Names and subnets of the proxies' networks. What the engine and the kernel make of them: tests/integration."""

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from executor.egress import network as network_module
from executor.egress.network import VARIABLE, configured, confine, create_network
from executor.errors import HostError, RequestError, UnsupportedError
from tests.fakes.engine import FakeEngine


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("", None), ("10.213.0.0/16", "10.213.0.0/16"), ("192.168.7.0/24", "192.168.7.0/24")],
)
def test_the_range_is_the_environments(text: str | None, expected: str | None) -> None:
    found = configured({} if text is None else {VARIABLE: text})
    assert found == (ipaddress.IPv4Network(expected) if expected else None)


@pytest.mark.parametrize(
    "text", ["10.213.0.0/25", "8.8.0.0/16", "10.213.0.1/16", "fd00::/64", "x", "10.0.0.0-10.1.0.0"]
)
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match=VARIABLE) as raised:
        configured({VARIABLE: text})
    assert "10.213.0.0/16" in raised.value.hint


class Subnets(FakeEngine):
    """Has networks on some subnets already."""

    def __init__(self, taken: Iterable[str]) -> None:
        super().__init__(lambda _: None)
        self.taken = set(taken)

    def create_network(self, name: str, *, labels: tuple[tuple[str, str], ...], subnet: str | None) -> bool:
        assert subnet is not None
        if subnet in self.taken:
            return False
        self.taken.add(subnet)
        return super().create_network(name, labels=labels, subnet=subnet)


RANGE = ipaddress.IPv4Network("10.213.5.0/24")
SUBNETS = [str(subnet) for subnet in RANGE.subnets(new_prefix=30)]


def test_the_last_free_subnet_is_found_and_then_there_is_none() -> None:
    engine = Subnets(SUBNETS[:17] + SUBNETS[18:])
    create_network(engine, "one", labels=(("a", "b"),), subnets=RANGE)
    assert engine.networks == {"one": {"a": "b", "subnet": SUBNETS[17]}}
    with pytest.raises(HostError, match="64 subnets"):
        create_network(engine, "two", labels=(), subnets=RANGE)


def test_without_a_range_the_engine_chooses() -> None:
    engine = FakeEngine(lambda _: None)
    create_network(engine, "one", labels=(), subnets=None)
    assert engine.networks == {"one": {"subnet": ""}}


@pytest.mark.parametrize("kind", [HostError, UnsupportedError])
def test_where_the_engine_has_none_left_the_range_is_named(kind: type[HostError]) -> None:
    class Full(FakeEngine):
        def create_network(self, *_: Any, **__: Any) -> bool:
            raise kind("the engine has no subnet left for another network")

    with pytest.raises(kind, match="no subnet left") as raised:
        create_network(Full(lambda _: None), "one", labels=(), subnets=None)
    assert VARIABLE in raised.value.hint


@pytest.mark.parametrize(
    ("device", "prefix", "expected"), [("lo", "00", False), ("eth0", "00", True), ("eth0", "40", False)]
)
def test_a_way_out_by_ipv6_is_seen(tmp_path: Path, device: str, prefix: str, expected: bool) -> None:
    table = tmp_path / "ipv6_route"
    assert not network_module._has_ipv6_route(table)
    table.write_text(f"{'0' * 32} {prefix} {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200 {device}\n")
    assert network_module._has_ipv6_route(table) is expected


def test_a_process_that_is_not_there_is_not_confined(tmp_path: Path) -> None:
    assert not confine(7, container="c", addresses=["192.0.2.1"], proc=tmp_path)
