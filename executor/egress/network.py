"""The network of one run's proxy: made for it, removed after it, and on it only the way to the destinations.

Two proxies on one network reach one another where the engine was started without iptables, whatever the network's own
options say (Docker 20.10, 2026-12). So each has a network of its own, and, where this process may change it, a routing
table that leads to the run's destinations and nowhere else: not to another proxy's network, through the host, either.
"""

import ctypes
import fcntl
import ipaddress
import os
import re
import secrets
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from executor.errors import HostError, RequestError
from executor.sandbox.cgroup import is_process_of
from executor.sandbox.engine import Engine

VARIABLE = "EXECUTOR_EGRESS_SUBNETS"
_PREFIX_LENGTH_MAX = 24  # of the range: 64 networks at least
_SUBNET_PREFIX_LENGTH = 30  # two hosts: the proxy and its gateway
_TRIES = 100
_REACH_SECONDS = 2.0  # the kernel tries again after one (tcp(7))
_CLONE_NEWNET = 0x40000000  # setns(2), as are these of routing (7) by <linux/sockios.h> and <linux/route.h>
_SIOCADDRT = 0x890B
_SIOCDELRT = 0x890C
_ANYWHERE = "0.0.0.0"  # noqa: S104 - of the default route
_RTF_UP, _RTF_GATEWAY, _RTF_HOST = 1, 2, 4


def configured(environment: Mapping[str, str] = os.environ) -> ipaddress.IPv4Network | None:
    """Return the range that `EXECUTOR_EGRESS_SUBNETS` names, or None: then the engine chooses, of its own pools.

    Raises:
        RequestError: It is no private IPv4 network, or smaller than a /24.
    """
    text = environment.get(VARIABLE)
    if not text:
        return None
    try:
        found = ipaddress.IPv4Network(text)
    except ValueError:
        found = None
    if found is None or not found.is_private or found.prefixlen > _PREFIX_LENGTH_MAX:
        raise RequestError(
            f"{VARIABLE} is {text[:40]!r}: no private IPv4 network of at least 256 addresses",
            hint="name one that nothing here uses, such as 10.213.0.0/16",
        )
    return found


def create_network(
    engine: Engine, name: str, *, labels: tuple[tuple[str, str], ...], subnets: ipaddress.IPv4Network | None
) -> None:
    """Create the network of one proxy.

    Raises:
        HostError: The engine failed, or no subnet is free.
    """
    if subnets is None:
        try:
            engine.create_network(name, labels=labels, subnet=None)
        except HostError as err:
            raise type(err)(err.message, hint=f"{VARIABLE} names a range for the networks of proxies") from err
        return
    size = 1 << (32 - _SUBNET_PREFIX_LENGTH)
    count = subnets.num_addresses // size
    tried = secrets.SystemRandom().sample(range(count), min(count, _TRIES))
    for number in tried:
        first = subnets.network_address + number * size
        if engine.create_network(name, labels=labels, subnet=f"{first}/{_SUBNET_PREFIX_LENGTH}"):
            return
    raise HostError(
        f"{len(tried)} subnets of {VARIABLE} were tried, and all are taken", hint=f"name a larger range than {subnets}"
    )


def confine(pid: int, *, container: str, addresses: Sequence[str], proc: Path = Path("/proc")) -> bool:
    """Leave a container routes to some addresses and to its own subnet alone.

    Its processes have no capability to add one.

    Args:
        pid: Process 1 of the container, as the host numbers it.
        container: The engine's ID of the container.
        addresses: Where it may connect to. Those of IPv6, for which its network has no route, are left out.
        proc: The proc filesystem.

    Returns:
        Whether it is so: not where this process is not root, or does not see the container's, or where the engine gave
        its network a way out by IPv6.
    """
    try:
        descriptor = os.open(proc / str(pid) / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not is_process_of(pid, container=container, proc=proc):
                return False
            with _socket_in(descriptor, socket.SOCK_DGRAM) as control:
                gateway = _default_gateway((proc / str(pid) / "net/route").read_text(encoding="ascii"))
                for address in {a for a in addresses if ":" not in a} - {gateway}:
                    flags = _RTF_UP | _RTF_GATEWAY | _RTF_HOST
                    fcntl.ioctl(control, _SIOCADDRT, _route(address, "255.255.255.255", gateway, flags))
                fcntl.ioctl(control, _SIOCDELRT, _route(_ANYWHERE, _ANYWHERE, gateway, _RTF_UP | _RTF_GATEWAY))
            return not _has_ipv6_route(proc / str(pid) / "net/ipv6_route")
        finally:
            os.close(descriptor)
    except (OSError, LookupError):
        return False


def reaches(source: int, target: int, address: str, *, proc: Path = Path("/proc")) -> bool:
    """Return whether a connection comes about from the network of one container to an address of another's.

    Args:
        source: A process of the container that connects, as the host numbers it.
        target: A process of the one that listens.
        address: Of the latter.
        proc: The proc filesystem.

    Raises:
        OSError: This process may not enter their networks, or the address is not the target's.
    """
    spaces: list[int] = []
    try:
        for pid in (source, target):
            spaces.append(os.open(proc / str(pid) / "ns/net", os.O_RDONLY | os.O_CLOEXEC))
        with _socket_in(spaces[1], socket.SOCK_STREAM) as server, _socket_in(spaces[0], socket.SOCK_STREAM) as client:
            server.bind((address, 0))
            server.listen()
            client.settimeout(_REACH_SECONDS)
            return client.connect_ex(server.getsockname()) == 0
    finally:
        for descriptor in spaces:
            os.close(descriptor)


def _socket_in(namespace: int, kind: socket.SocketKind) -> socket.socket:
    """Return a socket of another network namespace, made on a thread that enters it and ends."""
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.socket(socket.AF_INET, kind))
        except OSError as err:
            made.append(err)

    thread = threading.Thread(target=make, name="setns")
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def _default_gateway(table: str) -> str:
    """Return the gateway of the default route (proc(5): net/route, addresses in hex and the host's byte order).

    Raises:
        LookupError: There is none.
    """
    for line in table.splitlines()[1:]:
        _, destination, gateway, *_ = line.split()
        if re.fullmatch("0+", destination):
            return socket.inet_ntoa(struct.pack("=I", int(gateway, 16)))
    raise LookupError("no default route")


def _has_ipv6_route(table: Path) -> bool:
    """Return whether there is a default route of IPv6 (net/ipv6_route) beside the kernel's own, which leads nowhere."""
    try:
        rows = [line.split() for line in table.read_text(encoding="ascii").splitlines()]
    except FileNotFoundError:  # a kernel without
        return False
    return any(row[1] == "00" and row[-1] != "lo" for row in rows)


def _route(destination: str, mask: str, gateway: str, flags: int) -> bytes:
    """Return a `struct rtentry` of 64-bit Linux (<linux/route.h>)."""
    places = [struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(a)) for a in (destination, gateway, mask)]
    return struct.pack("@L16s16s16sHhLPhPLLH0L", 0, *places, flags, 0, 0, 0, 0, 0, 0, 0, 0)
