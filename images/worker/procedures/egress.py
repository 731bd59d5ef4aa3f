"""Kind `egress`: be the proxy that jobs reach the world through, in a container of its own without any job's code.

The host says what squid shall be told, and hands over the socket on which the job's connections come in. What squid let
through and what it denied goes back as counts.
"""

import asyncio
import contextlib
import itertools
import os
import secrets
import signal
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from worker.frames import send_json
from worker.job import Job
from worker.relay import PORT, Relay

_SQUID = "/usr/sbin/squid"
_UP_SECONDS_MAX = 30.0
_TICK_SECONDS = 0.05
_REPORTS_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0)  # between the first reports; the last one between all others
_SETTLE_SECONDS_MAX = 8.0  # for squid to come to the last request: milliseconds where it is not flooded
_END_SECONDS = 2.0
_DENIALS_MAX = 100
_HOST_CHARACTERS_MAX = 253
_PORT_MAX = 65535
OTHERS = ("(others)", 0)


class Tally:
    """Counts what the proxy's log says: a line for each request, as `logformat egress` of the host's configuration.

    Attributes:
        allowed: Requests that the rules let through, whether or not the server answered.
        denied: All others. What squid refuses before it looks at the rules, or answers itself, is among them.
        denials: Of the latter, how many for which host and port; those of more than 100 pairs under `OTHERS`.
        last: A host that nobody can guess: the request for it is this process's own, counts as none, and comes last.
        is_last: Set once squid has written of that request.
    """

    def __init__(self) -> None:
        self.last = f"{secrets.token_hex(16)}.invalid"
        self.is_last = asyncio.Event()
        self.allowed = 0
        self.denied = 0
        self.denials: Counter[tuple[str, int]] = Counter()

    def take(self, line: str) -> None:
        """Take a line: squid's word for what it did, status, server that was connected to, host and port asked for.

        A line that is none of squid's is counted as a denial: better one too many than one too few.
        """
        fields = line.split()
        word, status, server, host, port = fields if len(fields) == 5 else ("", "", "-", "-", "-")
        if (word, status, host) == ("NONE_NONE", "0", "-"):
            return  # a connection without a request
        if host == self.last:
            self.is_last.set()
            return
        if not word.startswith("TCP_DENIED") and (server != "-" or word.startswith("TCP_")):
            self.allowed += 1
            return
        self.denied += 1
        number = int(port) if port.isdecimal() and len(port) <= 5 else 0
        place = (host[:_HOST_CHARACTERS_MAX], number if number <= _PORT_MAX else 0)
        self.denials[place if place in self.denials or len(self.denials) < _DENIALS_MAX - 1 else OTHERS] += 1

    def to_wire(self) -> dict[str, Any]:
        """Return the message for the host."""
        rows = [[host, port, count] for (host, port), count in self.denials.items()]
        return {"type": "egress", "allowed": self.allowed, "denied": self.denied, "denials": rows}


def run(job: Job) -> dict[str, Any]:
    """Serve until the host says that it is over.

    Raises:
        RuntimeError: Squid did not start, or ended.
    """
    for name in ("config", "hosts"):
        Path(job.params[f"{name}_path"]).write_text(job.params[name], encoding="utf-8")
    asyncio.run(_serve(job))
    return {}


async def _serve(job: Job) -> None:
    squid = await asyncio.create_subprocess_exec(
        _SQUID, "-N", "-f", job.params["config_path"], stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    await _wait_until_up(squid)
    send_json(job.control, {"type": "listening"})
    listener = await asyncio.to_thread(_receive_socket, job.control)
    tally, relay = Tally(), Relay(lambda: asyncio.open_connection("127.0.0.1", PORT))
    server = await asyncio.start_unix_server(relay.join, sock=listener)
    reading = asyncio.create_task(_read(squid, tally))
    reporting = asyncio.create_task(_report(job, tally))
    over = asyncio.create_task(asyncio.to_thread(job.control.recv, 1))
    await asyncio.wait([over, reading], return_when=asyncio.FIRST_COMPLETED)
    died = not over.done()
    reporting.cancel()
    send_json(job.control, tally.to_wire())
    server.close()
    relay.end()
    await _settle(tally, reading)
    with contextlib.suppress(ProcessLookupError):
        squid.send_signal(signal.SIGTERM)
    await asyncio.wait([reading], timeout=_END_SECONDS)
    send_json(job.control, tally.to_wire())
    if died:
        sys.stdout.flush()
        os._exit(1)  # the thread that waits for the host's word would hold up an ordinary end
    if not tally.is_last.is_set():  # then the counts are not complete, and must not pass for it
        raise RuntimeError("squid did not come to the last request")


async def _wait_until_up(squid: asyncio.subprocess.Process) -> None:
    for _ in range(int(_UP_SECONDS_MAX / _TICK_SECONDS)):
        if squid.returncode is not None:
            raise RuntimeError(f"squid ended at once, status {squid.returncode}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        except OSError:
            await asyncio.sleep(_TICK_SECONDS)
            continue
        writer.close()
        return
    raise RuntimeError("squid did not come up")


def _receive_socket(control: socket.socket) -> socket.socket:
    _, descriptors, _, _ = socket.recv_fds(control, 1, 1, socket.MSG_CMSG_CLOEXEC)
    if not descriptors:
        raise RuntimeError("the host handed over no socket")
    listener = socket.socket(fileno=descriptors[0])
    listener.setblocking(False)
    return listener


async def _read(squid: asyncio.subprocess.Process, tally: Tally) -> None:
    assert squid.stdout is not None
    with contextlib.suppress(ValueError, asyncio.LimitOverrunError):  # a line longer than any of ours
        async for line in squid.stdout:
            tally.take(line.decode(errors="replace"))


async def _report(job: Job, tally: Tally) -> None:
    last = tally.to_wire()
    for seconds in itertools.chain(_REPORTS_SECONDS, itertools.repeat(_REPORTS_SECONDS[-1])):
        await asyncio.sleep(seconds)
        if (now := tally.to_wire()) != last:
            send_json(job.control, now)
            last = now


async def _settle(tally: Tally, reading: asyncio.Task[None]) -> None:
    """Wait until squid has logged what came before: a request of our own goes the same way, and comes last."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_SETTLE_SECONDS_MAX):
            _, writer = await asyncio.open_connection("127.0.0.1", PORT)
            with contextlib.closing(writer):
                writer.write(
                    f"GET http://{tally.last}/ HTTP/1.1\r\nHost: {tally.last}\r\nConnection: close\r\n\r\n".encode()
                )
                last = asyncio.create_task(tally.is_last.wait())
                await asyncio.wait([last, reading], return_when=asyncio.FIRST_COMPLETED)
                last.cancel()
