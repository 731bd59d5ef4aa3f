"""`executor run JOB --out DIR`: run a job and release what passes."""

import argparse
import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any, TextIO

from executor.cli.arguments import named_path
from executor.cli.printing import Sinks, say
from executor.cli.progress import people
from executor.errors import Cancelled, HostError, RequestError
from executor.events import Events, Subscriber, json_lines
from executor.job.prepare import prepare
from executor.pool.client import PoolClient
from executor.recovery.reaper import Reaper
from executor.run.containers import Context
from executor.run.journey import Run, new_run_id
from executor.sandbox.docker import DockerEngine
from executor.state.home import open_home
from executor.state.runs import check_key
from executor.status import failure_wire


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the job file and where things go."""
    parser.add_argument("job", type=named_path, help="the job file, YAML or JSON")
    parser.add_argument("--out", type=named_path, metavar="DIR", help="the release directory; must not exist")
    parser.add_argument(
        "--idempotency-key", metavar="KEY", help="a second run with the same key returns the first one's result"
    )
    parser.add_argument(
        "--also-oms", action="store_true", help="also sign the artifacts as OpenSSF model-signing does, in model.sig"
    )
    parser.add_argument("--cold", action="store_true", help="start every container anew, also where a pool has one")
    parser.add_argument("--events", metavar="FILE", help="write events as JSON lines, `-` for stdout")


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Run the job.

    From the moment a release has its name the exit code is 0. What can then not be told any more, or not to its end, is
    a warning on whatever still works.
    """
    if args.json and args.events == "-":
        raise RequestError("--json and --events - both want stdout", hint="give --events a file")
    cancelled, run_id = cancel_on_signals(), new_run_id()
    with Reaper(open_home()) as reaper:  # first: it is a fork of this process, which has no threads yet
        sinks = Sinks()
        try:
            if args.events:
                sinks.add(nullcontext(json_lines(out)) if args.events == "-" else _events_file(args.events))
            sinks.add(people(sys.stderr))
            events = Events(run_id, sinks.subscribers)
            try:
                result = _run(args, run_id, events, cancelled, reaper)
            except BaseException as err:  # whatever ends the run, its events end with a result
                events.emit("result", result=failure_wire(err))
                raise
            events.emit("result", result=result)
        finally:
            sinks.close()
    lost = [f"an event stream ended early: {reason}" for reason in (*events.lost, *sinks.lost)]
    result["warnings"] = [*result.get("warnings", ()), *lost]
    say(sys.stderr, "\n".join([*(f"warning: {text}" for text in lost), *_record_lines(result)]))
    if args.json:
        say(out, json.dumps(result, indent=2))
    elif args.events != "-" and result["release"]:
        say(out, result["release"])
    return int(result["exit_code"])


def _record_lines(result: Mapping[str, Any]) -> list[str]:
    return [f"record: {result['record']}"] if "record" in result else []


def _run(
    args: argparse.Namespace, run_id: str, events: Events, cancelled: Callable[[], bool], reaper: Reaper
) -> dict[str, Any]:
    home = open_home()
    key = check_key(args.idempotency_key) if args.idempotency_key is not None else None
    prepared = prepare(args.job, home=home)
    target = args.out.absolute() if args.out else home.releases / run_id
    engine = connect_engine(cancelled)
    reaper.owed = engine.unremoved
    pool = None if args.cold else PoolClient(home, engine, wall_seconds=prepared.plan.longest_seconds)
    context = Context(home=home, engine=engine, pool=pool, cancelled=cancelled)
    return Run(
        prepared, run_id=run_id, target=target, context=context, events=events, key=key, also_oms=args.also_oms
    ).execute()


def connect_engine(cancelled: Callable[[], bool]) -> DockerEngine:
    """Return the engine, whose calls end soon after somebody asked to stop.

    Raises:
        HostError: None answers.
        Cancelled: Somebody asked to stop before one did.
    """
    try:
        return DockerEngine(cancelled=cancelled)
    except HostError as err:
        if cancelled():
            raise Cancelled("the run was cancelled") from err
        raise


@contextmanager
def _events_file(name: str) -> Iterator[Subscriber]:
    """Write events to a file, or to a pipe that somebody reads.

    Raises:
        RequestError: It cannot be opened, or is a pipe that nobody reads.
    """
    try:
        # Not blocking: to open a pipe would wait for a reader that may never come.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(name, flags, 0o666)
    except OSError as err:
        why = "nobody reads this pipe" if err.errno == errno.ENXIO else err.strerror
        raise RequestError(f"cannot write events to {name}: {why}") from err
    os.set_blocking(descriptor, True)
    with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123
        yield json_lines(stream)


def cancel_on_signals() -> "_Cancel":
    """Return what says whether somebody asked to stop."""
    cancel = _Cancel()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and a job in a shell's background: they mean it
            signal.signal(number, cancel.on_signal)
    return cancel


class _Cancel:
    """One signal cancels and reports, a second one kills: the next run or `doctor` then cleans up."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        return self._asked

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Take note; restore the default for the next one."""
        self._asked = True
        signal.signal(number, signal.SIG_DFL)
