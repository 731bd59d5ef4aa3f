"""For each attempt, the sandbox without the one protection that it is about.

A weakening changes the request to the engine, the job's limits, or a check of the host's. None is ever reachable from
the command line.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from executor.errors import JobError
from executor.sandbox import intake as intake_module
from executor.sandbox import slot as slot_module
from executor.sandbox.intake import Intake
from executor.transfer import frames as frames_module
from executor.transfer import quarantine as quarantine_module
from executor.transfer.frames import Message
from executor.transfer.quarantine import Quarantine

Body = Callable[[dict[str, Any]], None]
Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, kw_only=True)
class Weakening:
    """What to take away."""

    body: Body | None = None
    limits: dict[str, float] = field(default_factory=dict)
    patch: Patch | None = None


def host_config(**change: Any) -> Weakening:
    return Weakening(body=lambda body: body["HostConfig"].update(change))


def unfiltered_body(body: dict[str, Any]) -> None:
    body["HostConfig"]["SecurityOpt"] = ["no-new-privileges:true", "seccomp=unconfined"]


def root(**change: Any) -> Weakening:
    def weaken(body: dict[str, Any]) -> None:
        body["User"] = "0:0"
        body["HostConfig"].update(change)

    return Weakening(body=weaken)


def capable(*names: str, filtered: bool = False) -> Weakening:
    def weaken(body: dict[str, Any]) -> None:
        body["User"] = "0:0"
        body["HostConfig"].update(CapDrop=[], CapAdd=list(names))
        if not filtered:
            unfiltered_body(body)

    return Weakening(body=weaken)


def executable(path: str) -> Weakening:
    def weaken(body: dict[str, Any]) -> None:
        options = "rw,exec,nosuid,nodev,size=67108864,mode=1777"
        body["HostConfig"]["Tmpfs"][path] = options

    return Weakening(body=weaken)


def writable_mounts(body: dict[str, Any]) -> None:
    body["User"] = "0:0"
    for mount in body["HostConfig"]["Mounts"]:
        mount["ReadOnly"] = False


def host_network(body: dict[str, Any]) -> None:
    body["NetworkDisabled"] = False
    body["HostConfig"].update(NetworkMode="host", Sysctls={})  # whose buffers are not the container's to set


def without_flag(body: dict[str, Any]) -> None:
    """Without the filter too: a runtime that may gain privileges drops them under it, which it does not allow."""
    body["HostConfig"]["SecurityOpt"] = ["seccomp=unconfined"]


def believing_patch(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """A quarantine that passes over one of the things that it checks."""
    original = getattr(Quarantine, method)

    def believe(self: Quarantine, argument: Any) -> Any:
        try:
            return original(self, argument)
        except JobError:
            self.close()
            return None

    monkeypatch.setattr(Quarantine, method, believe)


def believing(method: str) -> Weakening:
    return Weakening(patch=lambda monkeypatch: believing_patch(monkeypatch, method))


def believing_about(part: str) -> Weakening:
    """As above, for the open output."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        original = getattr(quarantine_module._OpenArtifact, part)

        def believe(self: Any, argument: Any) -> Any:
            try:
                return original(self, argument)
            except JobError:
                return None

        monkeypatch.setattr(quarantine_module._OpenArtifact, part, believe)
        end = Quarantine.end

        def forgiving(self: Quarantine, message: Any) -> Any:
            artifact = end(self, message)
            self.artifacts = [a for a in self.artifacts if a is not None]
            return artifact

        monkeypatch.setattr(Quarantine, "end", forgiving)

    return Weakening(patch=patch)


def forgiving_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Intake._take_control

    def forgive(self: Intake, frame: Message) -> None:
        try:
            original(self, frame)
        except JobError:
            return

    monkeypatch.setattr(Intake, "_take_control", forgive)
    believing_patch(monkeypatch, "write")


def forgiving_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_module, "_DEPTH_MAX", 200)
    forgiving_frames(monkeypatch)


def growing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarantine in which an output may become longer than announced."""
    original = quarantine_module._OpenArtifact.write

    def grow(self: Any, data: bytes) -> None:
        self.size = self._written + len(data)
        original(self, data)

    monkeypatch.setattr(quarantine_module._OpenArtifact, "write", grow)


def forgiving_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    original = frames_module.FrameDecoder.feed

    def forgive(self: Any, data: bytes) -> Any:
        try:
            return original(self, data)
        except JobError:
            self._buffer.clear()
            return [Message({"type": "result", "result": {}})]

    monkeypatch.setattr(frames_module.FrameDecoder, "feed", forgive)
    forgiving_frames(monkeypatch)


def forgiving_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that takes an exit code of zero for success."""
    original = Intake._take_supervisor

    def forgive(self: Intake, frame: Message) -> None:
        original(self, frame)
        self.result = self.result or {}

    monkeypatch.setattr(Intake, "_take_supervisor", forgive)


def listening_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that leaves its socket where the worker found it, and somebody behind it."""
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    original, kept = slot_module.listen, []

    def listen(folder: Any, name: str) -> Any:
        server = original(folder, name)
        kept.append(server.dup())
        return server

    monkeypatch.setattr(slot_module, "listen", listen)


def undeclared(name: Any) -> Weakening:
    """A host that lets a job send what it did not declare."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        original = Quarantine.begin

        def begin(self: Quarantine, message: Any) -> None:
            if message.get("name") == name:
                message = dict(message, name="out.txt")
            original(self, message)

        monkeypatch.setattr(Quarantine, "begin", begin)

    return Weakening(patch=patch)


def constant(module: Any, name: str, value: Any) -> Weakening:
    return Weakening(patch=lambda monkeypatch: monkeypatch.setattr(module, name, value))


UNFILTERED = Weakening(body=unfiltered_body)
EXECUTABLE_TMP = executable("/tmp")
ROOT_ANYWHERE = root(ReadonlyRootfs=False)
WRITABLE_MOUNTS = Weakening(body=writable_mounts)
WITH_PTRACE = capable("SYS_PTRACE", filtered=True)
WITH_ADMIN = capable("SYS_ADMIN")
FORGIVING_FRAMES = Weakening(patch=forgiving_frames)
FORGIVING_DECODER = Weakening(patch=forgiving_decoder)
FORGIVING_END = Weakening(patch=forgiving_end)

WEAKENINGS: dict[str, Weakening] = {
    # file system
    "write to the root file system": ROOT_ANYWHERE,
    "write to the image's libraries": ROOT_ANYWHERE,
    "write to the job's code on the host": WRITABLE_MOUNTS,
    "write to the job's inputs on the host": WRITABLE_MOUNTS,
    "write beside the worker's socket on the host": WRITABLE_MOUNTS,
    "make a device node": capable("MKNOD"),
    "see the root of process 1": WITH_PTRACE,
    "read what the kernel tells of its timers": root(MaskedPaths=[]),
    "open a kernel setting for writing": root(ReadonlyPaths=[]),
    "mount a file system": WITH_ADMIN,
    "open a tree by the new mount interface": UNFILTERED,
    "get a handle to a file": UNFILTERED,
    # network
    "send to an address outside": Weakening(body=host_network),
    **dict.fromkeys(
        (
            *("open a datagram socket", "open a socket of several paths", "join a multicast group"),
            *("join a multicast group of one source", "join a multicast group of IPv6"),
            *("attach a program to a socket", "send out of band"),
            *("slow process 1 down", "slow every process of the user down", "queue a signal with a value"),
            *("move process 1 to one processor", "move process 1 under a number of 64 bits"),
            *("adopt the orphans of process 1", "install a filter of its own"),
            *("lock a part of a file", "lock a part of an open file", "lock a file", "take a lease on a file"),
            *("be told of changes in a folder", "make a pipe larger", "be sent signals by a descriptor"),
            *("watch files", "make a timer", "make a timer with a descriptor", "make semaphores of System V"),
            "interrupt every processor",
        ),
        UNFILTERED,
    ),
    "open a terminal": host_config(Tmpfs={"/tmp": ""}),
    "open a raw socket": capable("NET_RAW"),
    "open a packet socket": capable("NET_RAW"),
    "open a netlink socket": UNFILTERED,
    "open a socket to the hypervisor": UNFILTERED,
    "reach the kernel's crypto sockets": UNFILTERED,
    # process
    "run as root": root(),
    "have capabilities": capable("CHOWN", filtered=True),
    "gain privileges by a program": Weakening(body=without_flag),
    "rewrite process 1": WITH_PTRACE,
    "print through process 1": WITH_PTRACE,
    "lower the limits of process 1": UNFILTERED,
    "trace a process": UNFILTERED,
    "read another process's memory": UNFILTERED,
    "open a process descriptor": UNFILTERED,
    "compare kernel pointers of two processes": UNFILTERED,
    "change the personality": UNFILTERED,
    "make a user namespace": UNFILTERED,
    "be born into a user namespace": UNFILTERED,
    "raise the limit on open files": host_config(Ulimits=[]),
    "dump core": host_config(Ulimits=[]),
    # kernel interface
    "open an io_uring": UNFILTERED,
    "open a user fault descriptor": UNFILTERED,
    "ask for a keyring": UNFILTERED,
    "change the local descriptor table": UNFILTERED,
    "splice pages into a pipe": UNFILTERED,
    "load a program into the kernel": WITH_ADMIN,
    "make anonymous files in memory": UNFILTERED,
    # native code
    "load a library from shared memory": executable("/dev/shm"),
    "load a library from memory": UNFILTERED,
    # resources
    "use more memory than allowed": host_config(Memory=2 << 30, MemorySwap=2 << 30),
    "start more processes than allowed": host_config(PidsLimit=400),
    "fill the temporary folder": host_config(Tmpfs={"/tmp": "size=100m"}),
    "fill the temporary folder's inodes": host_config(Tmpfs={"/tmp": "nr_inodes=20000"}),
    "fill the shared memory": host_config(ShmSize=256 << 20),
    "print more than allowed": Weakening(limits={"log_bytes": 8 << 20}),
    "run longer than allowed": Weakening(limits={"wall_seconds": 300.0}),
    "do nothing for longer than allowed": Weakening(limits={"idle_seconds": 120.0}),
    "send more than allowed": Weakening(limits={"output_file_bytes": 8 << 20}),
    # output channel
    "send a file under a path upwards": undeclared("../../x"),
    "send a file under an absolute path": undeclared("/etc/passwd"),
    "send a file under a name of two lines": undeclared("out.txt\nSHA256SUMS"),
    "send a file under a name that is no text": undeclared(["out.txt"]),
    "send a file twice": FORGIVING_FRAMES,
    "send a file in another role": FORGIVING_FRAMES,
    "send less than announced": believing_about("finish"),
    "send more than announced": Weakening(patch=growing),
    "lie about a digest": believing_about("finish"),
    "announce a size below nothing": FORGIVING_FRAMES,
    "announce more than there is room for": FORGIVING_FRAMES,
    "send a file inside a file": FORGIVING_FRAMES,
    "send bytes outside of a file": believing("write"),
    "break off in the middle of a frame": FORGIVING_END,
    "send a frame that is too long": FORGIVING_DECODER,
    "send a frame of an unknown kind": FORGIVING_DECODER,
    "send text that is no JSON": FORGIVING_DECODER,
    "send JSON that is nested too deep": Weakening(patch=forgiving_depth),
    "flood the host with progress": constant(intake_module, "_MESSAGES_MAX", 1 << 40),
    "send a terminal's control codes as a name of progress": FORGIVING_FRAMES,
    # worker protocol
    "report its own end": FORGIVING_FRAMES,
    "send two results": FORGIVING_FRAMES,
    "succeed without a result": FORGIVING_END,
    "open a channel of its own": Weakening(patch=listening_on),
}


def weakening_for(name: str, family: str) -> Weakening | None:
    """Return what to take away for an attempt."""
    return WEAKENINGS.get(name) or (EXECUTABLE_TMP if family == "native code" else None)
