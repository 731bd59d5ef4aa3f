"""Progress for people, on stderr: live on a terminal, plain lines elsewhere. Of a job's text, controls are escaped."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from executor.events import Subscriber
from executor.text import printable

_LINES = {"accepted": "accepted, starting the sealed container", "started": "running"}
_STAGES = {
    "accepted": "starting",
    "started": "running",
    "collected": "received",
    "inspecting": "inspecting",
    "decided": "releasing",
    "released": "released",
}
_EPOCHS_MAX = 1e9  # beyond it a progress bar means nothing
_FIRST = ("epoch", "epochs", "loss")


@contextmanager
def people(stream: TextIO) -> Iterator[Subscriber]:
    """Give the subscriber that fits the stream."""
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        with _live(stream) as subscriber:
            yield subscriber
    else:
        yield lambda event: _print(stream, event)


def describe(event: dict[str, Any]) -> str | None:
    """Return one plain line for an event, or None where it is not for people."""
    name = event["event"]
    if name == "progress":
        return "  " + "  ".join(_values(event["values"]))
    if name == "log":
        lines = [printable(line) for line in event["text"].splitlines() if line.strip()]
        return "\n".join(f"  {event['stream']}| {line}" for line in lines) or None
    if name == "exited":
        outcome = event["outcome"]
        return f"job ended: {outcome['kind']}: {printable(outcome['reason'])}"
    if name == "inspecting":
        return f"inspecting: {event['stage']}"
    if name == "decided":
        waived = f", {len(event['waived'])} waived" if event["waived"] else ""
        lines = [f"policy: {'allowed' if event['allowed'] else 'denied'}{waived}"]
        for finding in event["findings"][:20]:
            place = printable(f"{finding['artifact']} at {finding['place']}")
            lines += [f"  {finding['rule']}: {place}: {printable(finding['detail'])}", f"    {finding['remedy']}"]
        return "\n".join(lines)
    if name == "collected":
        return f"outputs received: {len(event['artifacts'])}"
    if name == "warning":
        return f"warning: {event['message']}"
    if name in ("waiting", "replayed"):
        return f"{'waiting for' if name == 'waiting' else 'returning the result of'} run {event['first_run_id']}"
    if name == "released":
        return f"released: {event['path']}"
    return _LINES.get(name)


def _values(values: dict[str, float]) -> list[str]:
    names = [n for n in _FIRST if n in values] + sorted(n for n in values if n not in _FIRST)
    return [
        f"{printable(n)} {values[n]:g}" if n in ("epoch", "epochs") else f"{printable(n)} {values[n]:.4f}"
        for n in names
    ]


def _print(stream: TextIO, event: dict[str, Any]) -> None:
    line = describe(event)
    if line:
        print(line, file=stream, flush=True)


@contextmanager
def _live(stream: TextIO) -> Iterator[Subscriber]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    console = Console(file=stream)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[numbers]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("preparing", total=None, numbers="")

        def show(event: dict[str, Any]) -> None:
            if event["event"] == "progress":
                values = event["values"]
                total = min(values.get("epochs", 0), _EPOCHS_MAX) or None
                short = {n.replace("_accuracy", " acc"): v for n, v in values.items() if n != "epochs"}
                numbers = "  ".join(_values(short))  # a terminal has 80 columns
                progress.update(task, total=total, completed=min(values.get("epoch", 0), _EPOCHS_MAX), numbers=numbers)
                return
            line = describe(event)
            if line:
                console.print(Text(line))
            if event["event"] in _STAGES:
                progress.update(task, description=_STAGES[event["event"]], numbers="")

        yield show
