"""`executor run JOB --out DIR`: run a job and release what passes."""

import argparse
import json
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from executor.cli.arguments import named_path
from executor.cli.printing import say
from executor.cli.progress import people
from executor.errors import RequestError
from executor.events import Events, Subscriber, json_lines
from executor.home import open_home
from executor.pipeline import Run, new_run_id
from executor.pool.client import PoolClient
from executor.prepare import prepare
from executor.reaper import Reaper
from executor.report import failure_wire
from executor.runs import check_key
from executor.sandbox.docker import DockerEngine
from executor.stages import Context


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
    """Run the job."""
    if args.json and args.events == "-":
        raise RequestError("--json and --events - both want stdout", hint="give --events a file")
    run_id = new_run_id()
    with ExitStack() as stack:
        stack.enter_context(Reaper(open_home()))  # first: it is a fork of this process, which has no threads yet
        subscribers: list[Subscriber] = []
        if args.events == "-":
            subscribers.append(json_lines(out))
        elif args.events:
            subscribers.append(json_lines(stack.enter_context(_open_events(args.events))))
        subscribers.append(stack.enter_context(people(sys.stderr)))
        events = Events(run_id, tuple(subscribers))
        try:
            result = _run(args, run_id, events)
        except BaseException as err:  # whatever ends the run, its events end with a result
            events.emit("result", result=failure_wire(err))
            raise
        events.emit("result", result=result)
        talk = [f"warning: an event stream ended early: {reason}" for reason in events.lost]
    say(sys.stderr, "\n".join([*talk, f"record: {result['record']}"]))
    if args.json:
        say(out, json.dumps(result, indent=2))
    elif args.events != "-" and result["release"]:
        say(out, result["release"])
    return int(result["exit_code"])


def _run(args: argparse.Namespace, run_id: str, events: Events) -> dict[str, Any]:
    home = open_home()
    key = check_key(args.idempotency_key) if args.idempotency_key is not None else None
    prepared = prepare(args.job, home=home)
    target = args.out.absolute() if args.out else home.releases / run_id
    engine = DockerEngine()
    pool = None if args.cold else PoolClient(home, engine, wall_seconds=prepared.plan.longest_seconds)
    context = Context(home=home, engine=engine, pool=pool, cancelled=cancel_on_signals())
    return Run(
        prepared, run_id=run_id, target=target, context=context, events=events, key=key, also_oms=args.also_oms
    ).execute()


def _open_events(name: str) -> TextIO:
    try:
        return Path(name).open("w", encoding="utf-8")
    except OSError as err:
        raise RequestError(f"cannot write events to {name}: {err.strerror}") from err


def cancel_on_signals() -> "_Cancel":
    """Return what says whether somebody asked to stop."""
    cancel = _Cancel()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
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
