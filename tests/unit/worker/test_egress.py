"""The proxy's worker: what it makes of squid's log. Every line of these was seen from squid 5.7 (2026-11)."""

import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

module: Any = import_module("worker.procedures.egress")
frames: Any = import_module("worker.frames")


def tally(*lines: str) -> Any:
    counted = module.Tally()
    for line in lines:
        counted.take(line)
    return counted


@pytest.mark.parametrize(
    "line",
    [
        "TCP_MISS 200 172.19.0.1 m.example.test 18080\n",
        "TCP_TUNNEL 200 172.19.0.1 m.example.test 18080\n",
        "TCP_MISS 503 172.19.0.1 dead.example.test 18081\n",
        "NONE_NONE 503 172.19.0.1 dead.example.test 18081\n",
        "TCP_MISS_ABORTED 0 - far.example.test 80\n",
        "TCP_MISS_ABORTED 200 172.19.0.1 m.example.test 18080\n",
    ],
)
def test_what_the_rules_let_through_is_allowed_whatever_became_of_it(line: str) -> None:
    counted = tally(line)
    assert (counted.allowed, counted.denied, dict(counted.denials)) == (1, 0, {})


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("TCP_DENIED 403 - x.test 80\n", ("x.test", 80)),
        ("TCP_DENIED 403 - 1.2.3.4 443\n", ("1.2.3.4", 443)),
        ("TCP_DENIED_ABORTED 403 - x.test 80\n", ("x.test", 80)),
        ("NONE_NONE 501 - evil.test 80\n", ("evil.test", 80)),
        ("NONE_NONE 417 - 169.254.169.254 80\n", ("169.254.169.254", 80)),
        ("NONE_NONE 400 - - -\n", ("-", 0)),
        ("NONE_NONE 505 - - -\n", ("-", 0)),
        ("NONE_NONE 200 - m.example.test 18080\n", ("m.example.test", 18080)),  # TRACE, which squid answers itself
        ("TCP_DENIED 403 - " + "%25" * 120 + ".evil.test 80\n", (("%25" * 120)[:253], 80)),
        ("TCP_DENIED 403 - x.test 65535\n", ("x.test", 65535)),
        ("TCP_DENIED 403 - x.test 65536\n", ("x.test", 0)),
        ("TCP_DENIED 403 - x.test 999999999999\n", ("x.test", 0)),
        ("what is this\n", ("-", 0)),
        ("TCP_MISS 200 172.19.0.1 a name with spaces 80\n", ("-", 0)),
        ("\n", ("-", 0)),
    ],
)
def test_all_else_is_denied_a_line_that_is_none_among_it(line: str, place: tuple[str, int]) -> None:
    counted = tally(line)
    assert (counted.allowed, counted.denied, dict(counted.denials)) == (0, 1, {place: 1})


def test_a_connection_without_a_request_is_none() -> None:
    counted = tally("NONE_NONE 0 - - -\n")
    assert (counted.allowed, counted.denied) == (0, 0)


def test_the_last_request_is_noticed_and_counts_as_none() -> None:
    counted = tally()
    assert not counted.is_last.is_set()
    counted.take(f"TCP_DENIED 403 - {counted.last} 80\n")
    assert counted.is_last.is_set()
    assert (counted.allowed, counted.denied) == (0, 0)


def test_which_request_is_the_last_one_cannot_be_guessed() -> None:
    assert len({tally().last for _ in range(9)}) == 9


@pytest.mark.parametrize(("places", "rows"), [(99, 99), (100, 100), (250, 100)])
def test_a_hundred_places_are_told_apart_and_the_rest_counted_together(places: int, rows: int) -> None:
    counted = tally(*(f"TCP_DENIED 403 - h{n}.test 80\n" for n in range(places)), "TCP_DENIED 403 - h0.test 80\n")
    message = counted.to_wire()
    assert message["denied"] == places + 1 == sum(count for _, _, count in message["denials"])
    assert len(message["denials"]) == rows
    assert ["h0.test", 80, 2] in message["denials"]
    assert ([*module.OTHERS, places - 99] in message["denials"]) == (places > 99)


SQUID = """#!{python}
import socket
server = socket.create_server(("127.0.0.1", {port}))
while True:
    stream, _ = server.accept()
    request = stream.recv(4096).split()
    if request and {logs}:
        print("TCP_DENIED 403 -", request[1].decode().removeprefix("http://").rstrip("/"), 80, flush=True)
    stream.close()
"""


@pytest.mark.parametrize("logs", [True, False])
def test_counts_without_the_last_request_are_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    squid = tmp_path / "squid"
    squid.write_text(SQUID.format(python=sys.executable, port=port, logs=logs))
    squid.chmod(0o700)
    monkeypatch.setattr(module, "_SQUID", str(squid))
    monkeypatch.setattr(module, "PORT", port)
    if not logs:
        monkeypatch.setattr(module, "_SETTLE_SECONDS_MAX", 0.5)
    host, control = socket.socketpair()
    job = SimpleNamespace(control=control, params={"config_path": "unused"})
    with ThreadPoolExecutor(1) as threads, host, control:
        serving = threads.submit(lambda: asyncio.run(module._serve(job)))
        assert frames.receive_json(host) == {"type": "listening"}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "way-out"))
            listener.listen()
            socket.send_fds(host, [b"L"], [listener.fileno()])
        host.sendall(b"E")
        if logs:
            serving.result(timeout=120)
        else:
            with pytest.raises(RuntimeError, match="did not come to the last request"):
                serving.result(timeout=120)
