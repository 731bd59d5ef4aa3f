"""The proxy's configuration: what squid is told, as text. Pure, so that tests can hold it against attacks.

What is neither a plain HTTP request nor a tunnel is denied. Each allowed place is one rule of three conditions that
must all hold: the name that was asked for, the port, and the address that the name stands for. Names stand for what the
hosts file says and for nothing else: no resolver answers.
"""

from collections.abc import Sequence

from executor.egress.destinations import Destination

PROXY_PORT = 3128
CONFIG_PATH = "/tmp/squid.conf"  # noqa: S108 - a tmpfs of the container's own
HOSTS_PATH = "/tmp/hosts"  # noqa: S108
# A gateway to other protocols would open connections of its own: FTP's go where the server says (seen 2026-11).
_SPOKEN = """
acl spoken proto HTTP
acl tunnel method CONNECT
http_access deny manager
http_access deny !spoken !tunnel
""".strip()
# Squid wants its helper for deleting cached files to be there even where it caches none; the image has no helper.
_FIXED = f"""
http_port 127.0.0.1:{PROXY_PORT}
visible_hostname executor-egress
hosts_file {HOSTS_PATH}
dns_nameservers 127.0.0.1
dns_timeout 1 seconds
dns_defnames off
cache deny all
cache_mem 1 MB
memory_pools off
forwarded_for delete
via off
global_internal_static off
client_db off
eui_lookup off
pinger_enable off
unlinkd_program /usr/sbin/squid
icon_directory /usr/share/squid
digest_generation off
coredump_dir none
pid_filename none
shutdown_lifetime 0 seconds
connect_timeout 15 seconds
max_filedescriptors 1000
logformat egress %Ss %>Hs %<a %#>rd %>rP
access_log stdio:/dev/stdout logformat=egress
cache_log /dev/stderr
cache_store_log none
logfile_rotate 0
""".strip()


def configuration(destinations: Sequence[Destination]) -> str:
    """Return `squid.conf`: what is not one of the destinations is denied."""
    rules = []
    for number, place in enumerate(destinations):
        rules += [
            f"# {place.rule}",
            f"acl host{number} dstdomain -n {place.host}",
            f"acl port{number} port {place.port}",
            f"acl address{number} dst {place.address}",
            f"http_access allow host{number} port{number} address{number}",
        ]
    return "\n".join([_SPOKEN, *rules, "http_access deny all", _FIXED]) + "\n"


def hosts(destinations: Sequence[Destination]) -> str:
    """Return the hosts file: every name with its address. Squid takes one for each name."""
    return "".join(dict.fromkeys(f"{place.address} {place.host}\n" for place in destinations))
