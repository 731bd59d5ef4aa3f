"""Which network addresses a job may be let through to, whatever a name resolves to. Pure.

Special-purpose addresses are those of the IANA registries (RFC 6890 and its updates, read 2026-11), written out: the
standard library's `is_global` has changed its answer between patch releases (CVE-2024-4032).
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Where clouds answer a machine's own questions: credentials among the answers. None of them is ever let through to.
METADATA = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local: 169.254.169.254 of most clouds, 169.254.170.2 of container services
        "fe80::/10",
        "fd00:ec2::/32",  # AWS over IPv6
        "fd20:ce::254/128",  # Google over IPv6
        "fd00:42::42/128",  # Scaleway over IPv6
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's host, at an address that looks public
        "192.0.0.192/32",  # Oracle
    )
)
# Private ones: let through to only where a rule gives the address itself.
PRIVATE = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # shared between carriers and customers (RFC 6598)
        "fc00::/7",  # unique local (RFC 4193)
    )
)
# The machine itself, nobody, everybody, documentation, and IPv6 addresses that hold an IPv4 address inside.
SPECIAL = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
        "5f00::/16",
    )
)
_GLOBAL_IPV6 = IPv6Network("2000::/3")


def address_fault(text: str, *, given: bool) -> str | None:
    """Return why no job may be let through to an address, or None.

    Args:
        text: The address.
        given: Whether a rule gives this very address. One that a name resolved to must be public.

    Raises:
        ValueError: It is no address.
    """
    if "%" in text:
        raise ValueError(f"an address with a zone: {text!r}")
    address = ip_address(text)
    if _within(address, METADATA):
        return "a metadata or link-local address"
    if _within(address, SPECIAL):
        return "a special-purpose address"
    if _within(address, PRIVATE):
        return None if given else "a private address"
    if isinstance(address, IPv6Address) and address not in _GLOBAL_IPV6:
        return "a special-purpose address"  # loopback, mapped IPv4, NAT64, multicast, and what nobody has assigned
    return None


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
