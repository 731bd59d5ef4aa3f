"""A relay between two stream sockets: it hands on bytes and looks at none.

At both ends of a job's way out: in the job's container from a loopback port to the unix socket that leads out, and in
the proxy's container from that socket to the proxy.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator

PORT = 3128
EGRESS_SOCKET = "/run/executor/egress.sock"
_CONNECTIONS_MAX = 200
_PIECE_BYTES = 1 << 16

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay:
    """Joins every connection that comes in with a new one to the other side.

    Args:
        connect: Opens a connection to the other side.
    """

    def __init__(self, connect: Callable[[], Awaitable[Ends]]) -> None:
        self._connect = connect
        self._room = asyncio.Semaphore(_CONNECTIONS_MAX)
        self._ends: set[asyncio.StreamWriter] = set()
        self._over = False

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end. Where the other side does not answer it is closed at once."""
        with self._kept(writer):
            async with self._room:
                if self._over:
                    return
                try:
                    far_reader, far_writer = await self._connect()
                except OSError:
                    return
                with self._kept(far_writer):
                    await asyncio.gather(_hand_on(reader, far_writer), _hand_on(far_reader, writer))

    def end(self) -> None:
        """Break off every connection, and join no more."""
        self._over = True
        for writer in self._ends:
            writer.transport.abort()

    @contextlib.contextmanager
    def _kept(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._ends.add(writer)
        try:
            yield
        finally:
            self._ends.discard(writer)
            writer.close()


async def _hand_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Hand on bytes until the source ends, and then that it has: the other direction goes on."""
    with contextlib.suppress(OSError):
        while piece := await source.read(_PIECE_BYTES):
            target.write(piece)
            await target.drain()
        target.write_eof()


def listen_for_job() -> socket.socket:
    """Listen where the job's proxy variables point to."""
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", PORT))
    server.listen(64)
    return server


def serve_job(server: socket.socket) -> None:
    """Relay what comes in on a listening socket to the way out, for ever."""

    async def serve() -> None:
        relay = Relay(lambda: asyncio.open_unix_connection(EGRESS_SOCKET))
        await (await asyncio.start_server(relay.join, sock=server)).serve_forever()

    asyncio.run(serve())
