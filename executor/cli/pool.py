"""`executor pool start|status|stop`: keep sealed containers ready, so that a run need not wait for one."""

import argparse
import fcntl
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TextIO

from executor.cli.arguments import named_path
from executor.errors import HostError, RequestError
from executor.job.admission import admit
from executor.job.plan import LaunchPlan
from executor.job.prepare import plan_job, prepare
from executor.job.spec import parse_job
from executor.pool.client import ask
from executor.pool.stock import PoolClass
from executor.pool.supervisor import SCHEMA, Pool, PoolSettings, starts_max
from executor.recovery.reaper import Reaper
from executor.recovery.sweep import recover
from executor.sandbox.docker import DockerEngine
from executor.sandbox.engine import Engine
from executor.state.home import Home, open_home
from signing.files import open_appending

_ASK_SECONDS = 10.0
_READY_SECONDS_MAX = 300.0  # from one container to the next: how long all take depends on how many they are
_STOP_SECONDS_MAX = 300.0
_SIZE_MAX = 64
_TICK_SECONDS = 0.1
_PLAIN_JOB = b'{"apiVersion": "executor/v1", "kind": "script", "code": {"path": "."}, "outputs": [{"name": "out"}]}'
_INSPECTIONS = ("inventory", "replay")
_STOPPED = {"schema": SCHEMA, "status": "stopped", "exit_code": 0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("start", "start a pool, and return once it is full"),
        ("status", "say what the pool holds and has done"),
        ("stop", "stop the pool; jobs that run go on"),
    ):
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
        if name == "start":
            action.add_argument(
                "jobs",
                type=named_path,
                nargs="*",
                metavar="JOB",
                help="job files to be ready for; a script with default limits where none is named",
            )
            action.add_argument("--size", type=int, default=2, metavar="N", help="containers of each kind (default 2)")
            action.add_argument(
                "--lease-seconds", type=float, default=3600.0, metavar="S", help="how long one may wait (default 3600)"
            )
            action.add_argument("--foreground", action="store_true", help="stay, and log to stderr")


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Do one action."""
    home = open_home()
    if args.action == "start":
        result = _start(args, home)
    elif args.action == "stop":
        result = _stop(home)
    else:
        result = ask(home, "status", seconds=_ASK_SECONDS) or _STOPPED
    _print(out, result, as_json=args.json)
    return int(result["exit_code"])


def _print(out: TextIO, result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        out.write(json.dumps(result, indent=2) + "\n")
        return
    out.write(f"{result['status']}\n")
    for kind in result.get("classes", ()):
        line = f"{kind['kind']}: {kind['ready']} of {kind['size']} ready, sandbox {kind['sandbox_sha256'][:12]}"
        out.write(f"  {line}{', ' + kind['error'] if kind['error'] else ''}\n")


def _start(args: argparse.Namespace, home: Home) -> dict[str, Any]:
    if not 1 <= args.size <= _SIZE_MAX:
        raise RequestError(f"--size must be 1 to {_SIZE_MAX}: {args.size}")
    if not 1 <= args.lease_seconds <= 86400:
        raise RequestError(f"--lease-seconds must be 1 to 86400: {args.lease_seconds:g}")
    plans = [prepare(job, home=home).plan for job in args.jobs] or [plan_job(parse_job(_PLAIN_JOB, source="default"))]
    for plan in plans:
        if plan.job.devices:
            raise RequestError(f"job {plan.name!r} asks for a GPU, which a container that waits would hold")
    if args.foreground:
        return _serve(args, home, plans)
    if ask(home, "status", seconds=_ASK_SECONDS) is not None:
        raise _already()
    return _spawn(args, home)


def _already() -> RequestError:
    return RequestError(
        "a pool runs already for this state directory", hint="stop it first: executor pool stop; or see `pool status`"
    )


def _spawn(args: argparse.Namespace, home: Home) -> dict[str, Any]:
    """Start the supervisor in a session of its own and wait until it is full."""
    command = [sys.executable, "-I", "-X", "utf8", "-m", "executor", "pool", "start", "--foreground"]
    command += ["--size", str(args.size), "--lease-seconds", str(args.lease_seconds)]
    command += [str(job.absolute()) for job in args.jobs]
    log = home.log / "pool.log"
    with open_appending(log, mode=0o600) as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    most, deadline = 0, time.monotonic() + _READY_SECONDS_MAX
    status: dict[str, Any] | None = None
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise HostError(f"the pool did not start, status {process.returncode}", hint=f"see {log}")
        status = ask(home, "status", seconds=_ASK_SECONDS)
        if status is not None and status["pid"] == process.pid:
            if all(kind["ready"] == kind["size"] for kind in status["classes"]):
                return status
            ready = sum(kind["ready"] for kind in status["classes"])
            if ready > most:
                most, deadline = ready, time.monotonic() + _READY_SECONDS_MAX
            if error := next((kind["error"] for kind in status["classes"] if kind["error"]), None):
                _stop(home)
                raise HostError(f"the pool could not start a container: {error}", hint=f"see {log}")
        time.sleep(_TICK_SECONDS)
    _stop(home)
    raise HostError(
        f"no more than {most} containers became ready, none within {_READY_SECONDS_MAX:g} s", hint=f"see {log}"
    )


def _stop(home: Home) -> dict[str, Any]:
    if ask(home, "stop", seconds=_ASK_SECONDS) is None:
        return _STOPPED
    deadline = time.monotonic() + _STOP_SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            with _lock(home):
                return _STOPPED
        except RequestError:
            time.sleep(_TICK_SECONDS)
    raise HostError(
        f"the pool was told to stop and has not within {_STOP_SECONDS_MAX:g} s",
        hint="see its log, log/pool.log in the state directory",
    )


def _serve(args: argparse.Namespace, home: Home, plans: list[LaunchPlan]) -> dict[str, Any]:
    with _lock(home), Reaper(home) as reaper:
        _allow_open_files()
        engine = DockerEngine()
        reaper.owed = engine.unremoved
        recover(engine, home, now=lambda: datetime.now(UTC))
        classes = _classes(engine, plans, size=args.size)
        settings = PoolSettings(lease_seconds=args.lease_seconds, starts_max=starts_max())
        pool = Pool(engine, home, classes, settings=settings, say=_say)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: pool.stop())
        pool.run()
    return _STOPPED


def _allow_open_files() -> None:
    """Raise the limit on open files as far as it goes: every container that waits takes four."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _classes(engine: Engine, plans: list[LaunchPlan], *, size: int) -> list[PoolClass]:
    """Return what these plans need: a container for each job, and those that inspect what it sends."""
    classes: dict[tuple[str, str], PoolClass] = {}
    for plan in plans:
        image_id = admit(engine, plan).image_id
        for kind, config in ((plan.kind, plan.job), *((kind, plan.inspection) for kind in _INSPECTIONS)):
            one = PoolClass(kind=kind, config=replace(config, image_id=image_id), size=size)
            classes[one.key] = one
    return list(classes.values())


def _say(text: str) -> None:
    with suppress(OSError):  # a full disk must not end the pool
        print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}", file=sys.stderr, flush=True)


@contextmanager
def _lock(home: Home) -> Iterator[None]:
    """Hold what only one pool of a state directory can hold.

    Raises:
        RequestError: Another one does.
    """
    with open_appending(home.pool / "lock", mode=0o600) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _already() from None
        yield
