"""Where a run's jobs may connect to: the profile's egress rules with the address that each name stands for now.

A name is looked up once, by the host, before the run starts, and stands for that address until the run is over. So
whoever answers cannot steer a later lookup to another place (DNS rebinding), and nothing that a job says reaches a
resolver. A host that moves while a run lasts is out of reach until the next run.
"""

import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from ipaddress import ip_address
from typing import Any

from executor.errors import Cancelled, HostError, UnsupportedError
from policy.egress import address_fault
from policy.model import EgressRule

Lookup = Callable[[str], Sequence[str]]
_LOOKUPS_SECONDS_MAX = 30.0  # for all names of a run
_TICK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One allowed place.

    Attributes:
        rule: Id of the rule that allows it.
        host: Its name.
        port: Its port.
        address: What the name stands for in this run, in canonical text.
    """

    rule: str
    host: str
    port: int
    address: str

    def to_wire(self) -> dict[str, Any]:
        """Return the recorded form."""
        return {"rule": self.rule, "host": self.host, "port": self.port, "address": self.address}


def look_up(host: str) -> list[str]:
    """Ask this machine's resolver for the addresses of a name.

    Raises:
        OSError: It has none, or does not answer.
    """
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def resolve(
    rules: Sequence[EgressRule],
    *,
    today: date,
    lookup: Lookup = look_up,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Destination, ...]:
    """Return where jobs may connect to.

    Args:
        rules: The profile's egress rules. One that has expired allows nothing.
        today: The date.
        lookup: Returns the addresses of a name.
        cancelled: Asked several times a second whether to stop.

    Raises:
        HostError: A name has no address, or the resolver does not answer in time.
        UnsupportedError: A name has an address that no job may be let through to, be it beside others.
        Cancelled: Somebody asked to stop.
    """
    deadline = time.monotonic() + _LOOKUPS_SECONDS_MAX

    def patiently(host: str) -> Sequence[str]:
        return _in_time(lookup, host, deadline, cancelled)

    known: dict[str, str] = {}
    found = []
    for rule in rules:
        if rule.expires is not None and rule.expires < today:
            continue
        if rule.host not in known:
            known[rule.host] = str(ip_address(rule.address)) if rule.address else _looked_up(rule, patiently)
        found.append(Destination(rule=rule.id, host=rule.host, port=rule.port, address=known[rule.host]))
    return tuple(found)


def _in_time(lookup: Lookup, host: str, deadline: float, cancelled: Callable[[], bool]) -> Sequence[str]:
    """Look up a name on a thread of its own: a resolver that does not answer is left behind."""
    answers: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put(lookup(host))
        except Exception as err:  # raised again below, in the caller's thread
            answers.put(err)

    threading.Thread(target=work, name=f"look up {host}", daemon=True).start()
    while time.monotonic() < deadline:
        try:
            answer = answers.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            if cancelled():
                raise Cancelled("the run was cancelled") from None
            continue
        if isinstance(answer, Exception):
            raise answer
        return answer
    raise TimeoutError(f"no answer within {_LOOKUPS_SECONDS_MAX:g} s")


def _looked_up(rule: EgressRule, lookup: Lookup) -> str:
    try:
        addresses = [ip_address(text) for text in lookup(rule.host)]
        faults = {str(a): fault for a in addresses if (fault := address_fault(str(a), given=False))}
    except (OSError, ValueError) as err:
        raise HostError(
            f"cannot look up {rule.host}, which egress rule {rule.id} names",
            hint="check this machine's resolver, or give the rule the host's address",
        ) from err
    if not addresses:
        raise HostError(f"{rule.host}, which egress rule {rule.id} names, has no address")
    for text, fault in faults.items():
        raise UnsupportedError(
            f"{rule.host}, which egress rule {rule.id} names, is at {text}: {fault}",
            hint="a private host needs its address in the rule; metadata and special-purpose ones are never allowed",
        )
    return str(min(addresses, key=lambda a: a.version))  # networks of engines have IPv4, and seldom IPv6
