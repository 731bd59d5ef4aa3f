"""Makes one kind of kernel object in many processes until it is refused, and holds them: `make kernel-costs`."""

import ctypes
import fcntl
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from worker.job import current

PROCESSES = 20
SETTLE_SECONDS = 1.5
libc: Any = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
held: list[Any] = []


def call(name: str, *arguments: Any) -> int:
    """Make a call of the C library. Raises OSError where it fails."""
    answer: int = getattr(libc, name)(*arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def locks() -> Iterator[None]:
    for name in range(400):
        held.append(file := open(f"/tmp/{os.getpid()}-{name}", "wb"))
        for place in range(1000):
            fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * place)
            yield


def leases() -> Iterator[None]:
    while True:
        held.append(file := open(f"/tmp/{os.getpid()}-{len(held)}", "wb"))
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield


def groups() -> Iterator[None]:
    # By address: the datagram sockets that should carry them are refused, those of TCP take the option as well.
    while True:
        held.append(member := socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        for number in range(20):
            place = struct.pack("4s4s", bytes((239, len(held) >> 8 & 255, len(held) & 255, number)), b"\x7f\0\0\1")
            member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, place)
            yield


def socket_filters() -> Iterator[None]:
    program = (ctypes.c_char * (8 * 4096))(*(struct.pack("HBBI", 6, 0, 0, 0) * 4096))
    while True:
        held.append(filtered := socket.socket())
        filtered.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HxxxxxxP", 4096, ctypes.addressof(program)))
        yield


def seccomp_filters() -> Iterator[None]:
    program = (ctypes.c_char * (8 * 4096))(*(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000) * 4096))
    while True:
        call("prctl", 22, 2, struct.pack("HxxxxxxP", 4096, ctypes.addressof(program)))
        yield


def inotify() -> Iterator[None]:
    while True:
        held.append(call("inotify_init1", 0))
        yield


def timers() -> Iterator[None]:
    while True:
        call("timer_create", 0, None, ctypes.byref(ctypes.c_long()))
        yield


def keys() -> Iterator[None]:
    while True:
        call("syscall", 248, b"user", f"{len(held)}".encode(), bytes(1000), ctypes.c_size_t(1000), -3)
        held.append(None)
        yield


def watches() -> Iterator[None]:
    targets = [os.eventfd(0) for _ in range(500)]
    while True:
        held.append(poll := select.epoll())
        for target in targets:
            poll.register(target)
            yield


def descriptors_in_flight() -> Iterator[None]:
    while True:
        held.append(pair := socket.socketpair())
        socket.send_fds(pair[0], [b"x"], [0] * 200)
        yield


def pipes() -> Iterator[None]:
    while True:
        held.append(ends := os.pipe())
        os.set_blocking(ends[1], False)
        with suppress(BlockingIOError):
            while True:
                os.write(ends[1], bytes(4096))
        yield


def unix_buffers() -> Iterator[None]:
    while True:
        held.append(pair := socket.socketpair())
        fill(*pair)
        yield


def tcp_buffers() -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        while True:
            held.append(far := socket.create_connection(server.getsockname()))
            held.append(near := server.accept()[0])
            fill(near, far)
            yield


def tcp_backlogs() -> Iterator[None]:
    while True:
        held.append(server := socket.create_server(("127.0.0.1", 0), backlog=4096))
        for _ in range(100):
            held.append(one := socket.create_connection(server.getsockname()))
            fill(one)
            yield


def tcp_ends() -> Iterator[None]:
    with socket.create_server((f"127.0.0.{2 + os.getpid() % 200}", 0), backlog=128) as server:
        while True:
            near = socket.create_connection(server.getsockname())
            far = server.accept()[0]
            near.close()
            far.close()
            yield


def fill(*ends: socket.socket) -> None:
    for end in ends:
        end.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                end.send(bytes(1 << 16))


def eventfds() -> Iterator[None]:
    while True:
        held.append(os.eventfd(0))
        yield


def mappings() -> Iterator[None]:
    while True:
        held.append(mmap.mmap(-1, 4096, prot=(mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE)[len(held) % 2]))
        yield


def page_tables() -> Iterator[None]:
    area = libc.mmap(None, ctypes.c_size_t(1 << 40), 1, 0x4022, -1, 0)  # PROT_READ: each page is the one of zeros
    if area == ctypes.c_void_p(-1).value:
        raise MemoryError
    for place in range(area, area + 15_000 * (2 << 20), 2 << 20):
        ctypes.string_at(place, 1)
        yield


def segments() -> Iterator[None]:
    while True:
        held.append(number := call("shmget", 0, ctypes.c_size_t(1 << 16), 0o1600))
        libc.shmat.restype = ctypes.c_void_p
        if (place := libc.shmat(number, None, 0)) != ctypes.c_void_p(-1).value:
            ctypes.memset(place, 1, 1 << 16)
        yield


def queued_signals() -> Iterator[None]:
    kinds = range(signal.SIGRTMIN, signal.SIGRTMAX)
    signal.pthread_sigmask(signal.SIG_BLOCK, kinds)
    while True:
        for kind in kinds:
            os.kill(os.getpid(), kind)
            yield


def files() -> Iterator[None]:
    while True:
        with open(f"/tmp/{os.getpid()}-{len(held)}", "wb"):
            held.append(None)
        yield


def links() -> Iterator[None]:
    while True:
        os.symlink("x" * 4000, f"/tmp/{os.getpid()}-{len(held)}")
        held.append(None)
        yield


def descriptors() -> Iterator[None]:
    while True:
        held.append(open("/proc/self/maps", "rb", buffering=0))
        held[-1].read(1)
        yield


def names_looked_up() -> Iterator[None]:
    while True:
        os.path.exists(f"/{os.getpid()}-{len(held):0200}")
        held.append(None)
        yield


def names_looked_up_in_proc() -> Iterator[None]:
    while True:
        os.path.exists(f"/proc/{os.getpid()}-{len(held):0200}")
        held.append(None)
        yield


def processes() -> Iterator[None]:
    while True:
        if os.fork() == 0:
            time.sleep(3600)
            os._exit(0)
        yield


def busy_processes() -> Iterator[None]:
    while True:
        if os.fork() == 0:
            while True:
                pass
        yield


def nothing() -> Iterator[None]:
    yield from ()


KINDS: dict[str, Callable[[], Iterator[None]]] = {
    make.__name__: make
    for make in (
        nothing,
        locks,
        leases,
        groups,
        socket_filters,
        seccomp_filters,
        inotify,
        timers,
        keys,
        watches,
        descriptors_in_flight,
        pipes,
        unix_buffers,
        tcp_buffers,
        tcp_backlogs,
        tcp_ends,
        eventfds,
        mappings,
        page_tables,
        segments,
        queued_signals,
        files,
        links,
        descriptors,
        names_looked_up,
        names_looked_up_in_proc,
        processes,
        busy_processes,
    )
}


def attack(make: Callable[[], Iterator[None]], seconds: float, teller: int) -> None:
    """Make objects until one is refused or the time is over, tell how many, and hold them."""
    made, end, why = 0, time.monotonic() + seconds, "time"
    try:
        for _ in make():
            made += 1
            if made % 16 == 0 and time.monotonic() > end:
                break
        else:
            why = "end"
    except (OSError, MemoryError, ValueError) as err:
        why = f"errno {getattr(err, 'errno', 'none')}"
    os.write(teller, f"{made} {why}\n".encode())
    time.sleep(3600)


def main() -> None:
    params = current().params
    make, seconds = KINDS[params["kind"]], float(params["seconds"])
    reader, teller = os.pipe()
    print("begun", flush=True)
    time.sleep(SETTLE_SECONDS)  # for what the start of a job gives back, before anybody measures
    if not params["alone"]:
        for _ in range(PROCESSES):
            if os.fork() == 0:
                attack(make, seconds, teller)
                os._exit(0)
    else:
        if os.fork() == 0:
            attack(make, seconds, teller)
    os.close(teller)
    made, reasons = 0, set()
    with os.fdopen(reader) as told:
        for _ in range(1 if params["alone"] else PROCESSES):
            if not (line := told.readline()):
                reasons.add("killed")
                break
            count, _, why = line.strip().partition(" ")
            made += int(count)
            reasons.add(why)
    print(f"made {made} {','.join(sorted(reasons))}", flush=True)
    sys.stdout.flush()
    time.sleep(3600)


main()
