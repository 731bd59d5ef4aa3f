"""The proxy of one run: a container of its own, started before the job's and removed after it.

It is sealed as a job's is, but for one thing: it is on a network. Jobs reach it by a unix socket alone, whose listening
end this process makes in the job's folder and hands over. What it reports is read with the same distrust as a job's
words: whoever finds a hole in squid speaks with its voice.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from executor.egress.destinations import Destination
from executor.egress.network import configured, confine, create_network
from executor.egress.squid import CONFIG_PATH, HOSTS_PATH, configuration, hosts
from executor.errors import Cancelled, HostError, JobError
from executor.sandbox.config import EGRESS_SOCKET, ContainerRequest, SandboxConfig
from executor.sandbox.engine import Engine
from executor.sandbox.protocol import Channel, Launch, Procedure
from executor.sandbox.session import cpu_seconds_backstop
from executor.sandbox.slot import Slot, end_quietly, listen, make_folders, open_slot
from executor.transfer.frames import FrameDecoder, Message, encode_message

_UP_SECONDS_MAX = 60.0
_END_SECONDS_MAX = 20.0  # the worker waits for squid in it
_LOOK_SECONDS = 2.0
_TICK_SECONDS = 0.25
_READ_BYTES = 1 << 16
# Of a whole run. A day of reports, one every 15 s with 100 places each, is 5,760 messages and 156 MB.
_MESSAGES_MAX = 20_000
_MESSAGE_BYTES_MAX = 256 << 20
_WORDS_BYTES_MAX = 1 << 20
_DENIALS_MAX = 100
_LAST_WORDS_BYTES = 2048  # of what it printed, for the message where it fails
_HOST_CHARACTERS_MAX = 253
_SIGNAL_BASE = 128  # of the exit code of a process that a signal ended (waitpid(2), as engines have it)
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What went through the proxy, as it says.

    Attributes:
        allowed: Requests that the rules let through, whether or not a server answered.
        denied: All others.
        denials: Of the latter, how many for which host and port; those of more than 100 pairs under `(others)`.
        confined: Whether its routes led to the destinations alone.
        complete: Whether it counted until the job's end.
        fault: Why not, or the empty string.
    """

    allowed: int = 0
    denied: int = 0
    denials: Mapping[tuple[str, int], int]
    confined: bool = False
    complete: bool = False
    fault: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Return the recorded form."""
        return {
            "allowed": self.allowed,
            "denied": self.denied,
            "denials": [{"host": h, "port": p, "count": n} for (h, p), n in sorted(self.denials.items())],
            "confined": self.confined,
            "complete": self.complete,
            "fault": self.fault,
        }


class Proxy:
    """The proxy of one run.

    Args:
        engine: Where it runs.
        request: Its container.
        destinations: What it lets through.
        users: The file of the state directory by which users are leased.
        wall_seconds: How long it may be needed.
        cancelled: Asked several times a second whether to stop, while it comes up.
    """

    def __init__(
        self,
        engine: Engine,
        request: ContainerRequest,
        destinations: Sequence[Destination],
        *,
        users: Path,
        wall_seconds: float,
        cancelled: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._users = users
        self._network = f"{request.name}-network"
        self._request = replace(request, network=self._network)
        self._destinations = tuple(destinations)
        self._wall_seconds = wall_seconds
        self._cancelled = cancelled
        self._slot: Slot | None = None
        self._confined = False
        self._listening = threading.Event()
        self._ended = threading.Event()
        self._stopping = threading.Event()
        self._traffic = Traffic(denials={})
        self._finished = False
        self._messages = 0
        self._words_bytes = 0
        self._last_words = b""
        self._disbelief = ""
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start it, and return once it answers.

        Raises:
            HostError: It did not come up.
            Cancelled: Somebody asked to stop.
        """
        create_network(self._engine, self._network, labels=self._request.labels, subnets=configured())
        make_folders(self._request.folder)
        config = self._request.config
        slot = self._slot = open_slot(
            self._engine,
            self._request,
            users=self._users,
            kind="egress",
            preload=False,
            lease_seconds=_UP_SECONDS_MAX,
            cancelled=self._cancelled,
        )
        addresses = [place.address for place in self._destinations]
        self._confined = confine(slot.pid, container=slot.container, addresses=addresses)
        launch = _launch(self._destinations, config, self._wall_seconds)
        try:
            for channel, message in launch.to_wire():
                slot.channels[channel].settimeout(_END_SECONDS_MAX)
                slot.channels[channel].sendall(encode_message(message))
        except OSError as err:
            raise HostError("the egress proxy went away as it started") from err
        self._reader = threading.Thread(target=self._read, name="egress", daemon=True)
        self._reader.start()
        deadline = time.monotonic() + _UP_SECONDS_MAX
        while not self._listening.wait(_TICK_SECONDS):
            if self._cancelled():
                raise Cancelled("the run was cancelled")
            if self._ended.is_set() or time.monotonic() > deadline:
                raise HostError(f"the egress proxy did not come up: {self._fault()}")

    @property
    def has_ended(self) -> bool:
        """Whether it is gone, or no longer believed: a job finds nobody behind its way out."""
        return self._ended.is_set()

    def serve(self, folder: Path) -> None:
        """Let a job's container in: make the socket in the folder that it sees, and hand the listening end over.

        Raises:
            HostError: It could not be.
        """
        assert self._slot is not None, "it has been started"
        try:
            with listen(folder, EGRESS_SOCKET) as server:
                socket.send_fds(self._slot.channels[Channel.CONTROL], [b"L"], [server.fileno()])
        except OSError as err:
            raise HostError(f"the egress proxy could not be given the job's socket: {err}") from err

    def stop(self) -> Traffic:
        """Have it say what it counted, and remove it. What goes wrong here is told by `fault` and the next sweep."""
        try:
            return replace(self._end(), confined=self._confined)
        finally:
            with contextlib.suppress(HostError):  # it is owed
                self._engine.remove_network(self._network, seconds=_END_SECONDS_MAX)

    def _end(self) -> Traffic:
        slot = self._slot
        if slot is None:
            return self._traffic
        with contextlib.suppress(OSError):  # it may have gone already, and has said what it will
            slot.channels[Channel.CONTROL].sendall(b"E")
        fault = ""
        if self._reader is not None:
            fault = self._wait_for_end(slot)
            self._stopping.set()
            self._reader.join()
        slot.shut()
        fault = "" if self._finished else fault or self._engine_fault(slot) or self._fault()
        end_quietly(slot.lease)
        self._slot = None
        return replace(self._traffic, complete=self._finished, fault=fault)

    def _wait_for_end(self, slot: Slot) -> str:
        """Wait until it has said its last; return why it will not, where it is known that it will not."""
        deadline = time.monotonic() + _END_SECONDS_MAX
        while not self._ended.wait(_LOOK_SECONDS):
            if (fault := self._engine_fault(slot)) and not self._ended.is_set():
                return fault
            if time.monotonic() > deadline:
                return f"it did not answer within {_END_SECONDS_MAX:g} s"
        return ""

    def _engine_fault(self, slot: Slot) -> str:
        """Say what became of its container, where that is why: squid's last words are of something else then."""
        try:
            state = self._engine.state(slot.container)
        except HostError:
            return ""
        if state.running:
            return ""
        number = state.exit_code - _SIGNAL_BASE
        if number > 0:
            return f"its container was ended by signal {number}"
        return "its container was paused" if state.pid else ""

    def _fault(self) -> str:
        words = self._last_words.decode(errors="replace").strip()
        return self._disbelief or words or "it said nothing"

    def _read(self) -> None:
        """Drain its channels until all of them have ended, or this side has had enough."""
        assert self._slot is not None, "it has been started"
        decoders = {Channel.SUPERVISOR: FrameDecoder(), Channel.CONTROL: FrameDecoder()}
        try:
            with selectors.DefaultSelector() as selector:
                for name, stream in self._slot.channels.items():
                    selector.register(stream, selectors.EVENT_READ, name)
                while selector.get_map() and not self._stopping.is_set():
                    for key, _ in selector.select(_TICK_SECONDS):
                        stream, name = self._slot.channels[key.data], key.data
                        data = stream.recv(_READ_BYTES)
                        if name not in decoders:
                            self._hear(data)
                        if not data or (name in decoders and self._take(decoders[name], data)):
                            selector.unregister(stream)
        except OSError:
            return
        except JobError as err:
            self._disbelief, self._finished = err.message, False
        finally:
            self._ended.set()

    def _hear(self, text: bytes) -> None:
        self._words_bytes += len(text)
        self._last_words = (self._last_words + text)[-_LAST_WORDS_BYTES:]
        if self._words_bytes > _WORDS_BYTES_MAX:
            raise JobError(f"it printed more than {_WORDS_BYTES_MAX} bytes")

    def _take(self, decoder: FrameDecoder, data: bytes) -> bool:
        """Take what came; tell whether it was the last that this channel has to say."""
        for frame in decoder.feed(data):
            self._messages += 1
            if self._messages > _MESSAGES_MAX or decoder.json_bytes > _MESSAGE_BYTES_MAX:
                raise JobError(f"it sent more than {_MESSAGES_MAX} messages, or {_MESSAGE_BYTES_MAX} bytes of them")
            if not isinstance(frame, Message):
                raise JobError("it sent bytes of an output")
            kind = frame.value.get("type")
            if kind == "listening":
                self._listening.set()
            elif kind == "egress":
                self._traffic = parse_traffic(frame.value)
            elif kind == "result":
                self._finished = True
            elif kind == "exit":
                return True
        return False


def _launch(destinations: Sequence[Destination], config: SandboxConfig, wall_seconds: float) -> Launch:
    """Return what the worker of the proxy's image is asked for."""
    params = {
        "config": configuration(destinations),
        "config_path": CONFIG_PATH,
        "hosts": hosts(destinations),
        "hosts_path": HOSTS_PATH,
    }
    return Launch(
        procedure=Procedure(kind="egress", params=params, inputs={}, outputs={}),
        seed=0,
        threads=config.threads,
        cpu_seconds=cpu_seconds_backstop(config.cpus, wall_seconds),
        wall_seconds=wall_seconds,
    )


def parse_traffic(message: Mapping[str, Any]) -> Traffic:
    """Return what a message of the proxy says. Untrusted: every field.

    Raises:
        JobError: It is malformed.
    """
    rows = message.get("denials")
    counts = [message.get("allowed"), message.get("denied")]
    if not isinstance(rows, list) or len(rows) > _DENIALS_MAX:
        raise JobError("its report is malformed")
    denials: dict[tuple[str, int], int] = {}
    for row in rows:
        match row:
            case [str(host), port, count] if _is_place(host, port) and _is_count(count) and (host, port) not in denials:
                denials[host, port] = count
            case _:
                raise JobError("its report is malformed")
    if not all(_is_count(count) for count in counts):
        raise JobError("its report is malformed")
    return Traffic(allowed=int(counts[0] or 0), denied=int(counts[1] or 0), denials=denials)


def _is_place(host: str, port: object) -> bool:
    plain = 0 < len(host) <= _HOST_CHARACTERS_MAX and host.isascii() and host.isprintable()
    return plain and isinstance(port, int) and not isinstance(port, bool) and 0 <= port <= _PORT_MAX


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
