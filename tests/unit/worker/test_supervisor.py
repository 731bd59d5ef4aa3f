"""Process 1 of the container: what it makes of the host's words."""

import socket
import threading
from importlib import import_module
from typing import Any

supervisor: Any = import_module("worker.supervisor")
frames: Any = import_module("worker.frames")


def test_a_request_that_crossed_the_report_is_not_taken_for_the_end() -> None:
    host, own = socket.socketpair()
    waiting = threading.Thread(target=supervisor._wait_for_bye, args=(own,), daemon=True)
    frames.send_json(host, {"type": "sample"})
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    frames.send_json(host, {"type": "bye"})
    waiting.join(60)
    assert not waiting.is_alive()
