"""Tries to open a TCP connection."""

import socket

socket.create_connection(("127.0.0.1", 9), timeout=5)
