"""What the pool and its callers say to each other: one JSON object a packet, over a unix socket of the same user.

Both sides ask the kernel who the other one is (unix(7), SO_PEERCRED): the socket's file mode alone would let in whoever
got hold of a descriptor of it.
"""

import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

from executor.errors import HostError
from executor.sandbox.sockets import address_in

VERSION = 1
PACKET_BYTES_MAX = 1 << 16
_CREDENTIALS = struct.Struct("3i")
SOCKET = "pool.sock"


def listen(folder: Path) -> socket.socket:
    """Listen in a folder that is ours alone."""
    (folder / SOCKET).unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o177)
    try:
        with address_in(folder, SOCKET) as address:
            server.bind(address)
        server.listen(64)
    except BaseException:
        server.close()
        raise
    finally:
        os.umask(before)
    return server


def connect(folder: Path, *, seconds: float) -> socket.socket:
    """Connect to the pool of a folder.

    Raises:
        OSError: There is none.
        HostError: What listens there is somebody else's.
    """
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        stream.settimeout(seconds)
        with address_in(folder, SOCKET) as address:
            stream.connect(address)
        if not is_same_user(stream):
            raise HostError(f"the pool's socket is another user's: {folder / SOCKET}")
    except BaseException:
        stream.close()
        raise
    return stream


def is_same_user(stream: socket.socket) -> bool:
    """Whether the other side runs as this process's user."""
    return peer(stream)[1] == os.getuid()


def peer(stream: socket.socket) -> tuple[int, int]:
    """Return process id and user id of the other side, as the kernel has them."""
    pid, user, _ = _CREDENTIALS.unpack(stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, user


def send(stream: socket.socket, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
    """Send one message, with open files if there are any."""
    data = json.dumps({"v": VERSION, **message}, separators=(",", ":")).encode()
    if descriptors:
        socket.send_fds(stream, [data], descriptors)
    else:
        stream.sendall(data)


def receive(stream: socket.socket, descriptors_max: int = 0) -> tuple[dict[str, Any], list[int]]:
    """Receive one message and the open files that came with it.

    Raises:
        EOFError: The other side has gone.
        ValueError: Not a message of this version. No open file is kept.
    """
    data, descriptors, flags, _ = socket.recv_fds(stream, PACKET_BYTES_MAX, descriptors_max, socket.MSG_CMSG_CLOEXEC)
    try:
        if not data:
            raise EOFError("the other side has gone")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError("a message is too long, or brings more open files than expected")
        message = json.loads(data)
        if not isinstance(message, dict) or message.get("v") != VERSION:
            raise ValueError("not a message of this version")
    except (ValueError, RecursionError, EOFError):
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return message, list(descriptors)
