"""Tries every way out that it is told of, and sends what came of each."""

import json
import re
import socket
import time
import urllib.request

from worker.job import current


def through_proxy(requests: list[str]) -> str:
    """Send requests one after another over one connection to the proxy; return the answers."""
    answers = ""
    with socket.create_connection(("127.0.0.1", 3128), 60) as stream, stream.makefile("rb") as reader:
        for request in requests:
            stream.sendall(request.encode())
            answers += answer_of(reader)
    return answers


def answer_of(reader) -> str:
    head = b""
    while (line := reader.readline()) not in (b"", b"\r\n"):
        head += line
    length = re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE)
    body = reader.read(int(length[1])) if length else b""
    return (head + b"\r\n" + body).decode(errors="replace")


def flood(count: int) -> str:
    """Open many connections, each with half a request, and then close them."""
    streams = [socket.create_connection(("127.0.0.1", 3128), 60) for _ in range(count)]
    for stream in streams:
        stream.sendall(b"GET http://a.example.test/ HTTP/1.1\r\nHost:")
    for stream in streams:
        stream.close()
    return f"opened {len(streams)}"


def wait_until_gone(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with socket.socket(socket.AF_UNIX) as stream:
                stream.connect("/run/executor/egress.sock")
        except OSError:
            return "gone"
        time.sleep(0.2)
    return "still there"


def shout(seconds: float) -> str:
    """Have as many requests denied as can be, over many connections, and read no answer."""
    streams = [socket.socket(socket.AF_UNIX) for _ in range(400)]
    for stream in streams:
        stream.connect("/run/executor/egress.sock")
        stream.setblocking(False)
    requests = b"GET http://noise.example.test/ HTTP/1.1\r\nHost: a\r\n\r\n" * 500
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for stream in streams:
            try:
                stream.send(requests)
            except OSError:
                continue
    return "shouted"


def attempt(kind: str, argument: object) -> str:
    try:
        if kind == "raw":
            return through_proxy(argument)
        if kind == "library":
            with urllib.request.urlopen(argument, timeout=60) as answer:
                return f"HTTP/1.1 {answer.status}\r\n\r\n{answer.read().decode()}"
        if kind == "direct":
            with socket.create_connection(tuple(argument), 5) as stream:
                return f"connected to {stream.getpeername()}"
        if kind == "flood":
            return flood(argument)
        if kind == "shout":
            return shout(argument)
        if kind == "fail":
            raise SystemExit(3)
        if kind == "wait until it is gone":
            job.progress(waiting=1)
            return wait_until_gone(argument)
        return str(socket.getaddrinfo(argument, 80))
    except OSError as err:
        return f"{type(err).__name__}: {err}"


job = current()
tried = {name: attempt(*how) for name, how in job.params["ways"].items()}
job.output("tried.json", json.dumps(tried))
