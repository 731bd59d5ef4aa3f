"""Names looked up once, by the host, and held against what no job may reach."""

import threading
from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest

from executor.egress.destinations import Destination, look_up, resolve
from executor.errors import Cancelled, HostError, UnsupportedError
from policy.model import EgressRule

TODAY = date(2026, 11, 24)


def rule(**change: Any) -> EgressRule:
    return EgressRule.model_validate(
        {
            "id": "EGRESS-ONE",
            "host": "one.example.org",
            "port": 443,
            "reason": "A host that the tests know",
            "reviewer": "security-review",
            "reviewed": "2026-11-24",
        }
        | change
    )


def answering(*addresses: str) -> Any:
    asked: list[str] = []

    def lookup(host: str) -> Sequence[str]:
        asked.append(host)
        return addresses

    lookup.asked = asked  # type: ignore[attr-defined]
    return lookup


def test_a_name_is_looked_up_once_for_all_its_ports() -> None:
    lookup = answering("2606:2800:220:1::1", "93.184.215.14")
    found = resolve([rule(), rule(id="EGRESS-TWO", port=80)], today=TODAY, lookup=lookup)
    assert found == tuple(
        Destination(rule=name, host="one.example.org", port=port, address="93.184.215.14")
        for name, port in (("EGRESS-ONE", 443), ("EGRESS-TWO", 80))
    )
    assert lookup.asked == ["one.example.org"]


def test_a_given_address_is_taken_and_the_name_not_looked_up() -> None:
    lookup = answering()
    (found,) = resolve([rule(address="10.0.0.7")], today=TODAY, lookup=lookup)
    assert found.address == "10.0.0.7"
    assert lookup.asked == []


@pytest.mark.parametrize("bad", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fd00::1"])
def test_a_name_that_stands_for_a_forbidden_address_is_refused_even_beside_a_public_one(bad: str) -> None:
    for answer in ([bad], ["93.184.215.14", bad], [bad, "93.184.215.14"]):
        with pytest.raises(UnsupportedError, match="EGRESS-ONE"):
            resolve([rule()], today=TODAY, lookup=answering(*answer))


@pytest.mark.parametrize("answer", [[], ["not an address"], ["fe80::1%eth0"]])
def test_a_name_without_an_address_is_the_hosts_fault(answer: list[str]) -> None:
    with pytest.raises(HostError):
        resolve([rule()], today=TODAY, lookup=answering(*answer))


def test_a_resolver_that_fails_is_worth_a_retry() -> None:
    def lookup(host: str) -> Sequence[str]:
        raise OSError(host)

    with pytest.raises(HostError) as raised:
        resolve([rule()], today=TODAY, lookup=lookup)
    assert not isinstance(raised.value, UnsupportedError)
    assert raised.value.hint


def test_a_resolver_that_does_not_answer_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.egress.destinations._LOOKUPS_SECONDS_MAX", 0.3)
    over = threading.Event()
    with pytest.raises(HostError, match=r"one\.example\.org"):
        resolve([rule()], today=TODAY, lookup=lambda _: over.wait(60) * ["10.0.0.1"])
    over.set()


def test_a_lookup_can_be_cancelled() -> None:
    over = threading.Event()
    with pytest.raises(Cancelled):
        resolve([rule()], today=TODAY, lookup=lambda _: over.wait(60) * ["10.0.0.1"], cancelled=lambda: True)
    over.set()


@pytest.mark.parametrize(("expires", "count"), [("2026-11-23", 0), ("2026-11-24", 1), (None, 1)])
def test_a_rule_holds_to_the_day_it_expires(expires: str | None, count: int) -> None:
    assert len(resolve([rule(expires=expires)], today=TODAY, lookup=answering("93.184.215.14"))) == count


def test_this_machines_resolver_is_asked() -> None:
    assert "127.0.0.1" in look_up("localhost")
