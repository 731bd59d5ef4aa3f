"""What squid is told."""

from executor.egress.destinations import Destination
from executor.egress.squid import configuration, hosts

PLACES = (
    Destination(rule="EGRESS-A", host="a.example.org", port=443, address="93.184.215.14"),
    Destination(rule="EGRESS-B", host="a.example.org", port=80, address="93.184.215.14"),
    Destination(rule="EGRESS-C", host="c.internal", port=8080, address="10.0.0.7"),
)


def test_every_place_is_allowed_by_name_port_and_address_together_and_all_else_denied() -> None:
    lines = configuration(PLACES).splitlines()
    access = [line for line in lines if line.startswith("http_access")]
    assert access == [
        "http_access deny manager",
        "http_access deny !spoken !tunnel",
        "http_access allow host0 port0 address0",
        "http_access allow host1 port1 address1",
        "http_access allow host2 port2 address2",
        "http_access deny all",
    ]
    assert "acl spoken proto HTTP" in lines
    assert "acl tunnel method CONNECT" in lines
    assert "acl host2 dstdomain -n c.internal" in lines
    assert "acl port2 port 8080" in lines
    assert "acl address2 dst 10.0.0.7" in lines


def test_without_a_place_nothing_is_allowed() -> None:
    assert [line for line in configuration(()).splitlines() if "allow" in line.split()] == []


def test_the_proxy_listens_on_loopback_keeps_nothing_and_asks_no_resolver() -> None:
    lines = configuration(PLACES).splitlines()
    assert [line for line in lines if "_port " in line] == ["http_port 127.0.0.1:3128"]
    assert "cache deny all" in lines
    assert "dns_nameservers 127.0.0.1" in lines  # where nobody answers


def test_the_hosts_file_has_every_name_once() -> None:
    assert hosts(PLACES) == "93.184.215.14 a.example.org\n10.0.0.7 c.internal\n"
