"""Tries to resolve a name that can never exist (RFC 6761), and another that would on a connected machine."""

import socket

socket.getaddrinfo("localhost.localdomain.invalid", 80)
