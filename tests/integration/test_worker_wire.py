"""What a real worker says on the real engine, every message of it, against the schema that both sides are held to."""

from typing import Any

import pytest

from executor.transfer.frames import Chunk, FrameDecoder, Message
from tests.contract.test_worker_wire import validator
from tests.integration.conftest import Host, run_here


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Keep every message that the host takes in."""
    found: list[dict[str, Any]] = []
    feed = FrameDecoder.feed

    def listen(self: FrameDecoder, data: bytes) -> list[Message | Chunk]:
        frames = feed(self, data)
        found.extend(frame.value for frame in frames if isinstance(frame, Message))
        return frames

    monkeypatch.setattr(FrameDecoder, "feed", listen)
    return found


@pytest.mark.parametrize(("script", "last"), [("hello", "result"), ("fail", "error")])
def test_every_message_of_a_run_fits_the_schema(
    host: Host, heard: list[dict[str, Any]], script: str, last: str
) -> None:
    run_here(host.script_job(script, {"name": "greeting.txt"}), host.folder)
    kinds = [message["type"] for message in heard]
    assert {"ready", last, "exit"} <= set(kinds)
    for message in heard:
        validator("from-worker").validate(message)
