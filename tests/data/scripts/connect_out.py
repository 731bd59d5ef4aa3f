"""Tries to open a TCP connection to an address that is kept for documentation (RFC 5737)."""

import socket

socket.create_connection(("192.0.2.1", 80), timeout=5)
