"""The event stream: numbered without gaps, and indifferent to readers that fail."""

import io
import json
from typing import Any

from executor.events import SCHEMA, Events, json_lines


def test_events_are_numbered_and_carry_their_run() -> None:
    seen: list[dict[str, Any]] = []
    events = Events("run-1", (seen.append,))
    events.emit("accepted", image="x")
    events.emit("released")
    assert [(e["schema"], e["seq"], e["run_id"], e["event"]) for e in seen] == [
        (SCHEMA, 0, "run-1", "accepted"),
        (SCHEMA, 1, "run-1", "released"),
    ]
    assert seen[0]["image"] == "x"


def test_a_reader_that_fails_is_dropped_and_the_others_go_on() -> None:
    seen: list[dict[str, Any]] = []

    def fail(_: dict[str, Any]) -> None:
        raise BrokenPipeError("gone")

    events = Events("run-1", (fail, seen.append))
    events.emit("a")
    events.emit("b")
    assert [e["seq"] for e in seen] == [0, 1]
    assert events.lost == ["BrokenPipeError: gone"]


def test_each_event_is_one_line_of_json() -> None:
    stream = io.StringIO()
    events = Events("run-1", (json_lines(stream),))
    events.emit("log", text="two\nlines")
    events.emit("released")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["log", "released"]
    assert lines[0]["text"] == "two\nlines"
