"""`executor reproduce RELEASE`: run a release's plan again, compare, and sign what came of it."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, TextIO

from executor.cli.arguments import named_path
from executor.cli.expectations import add_signer_arguments, policy_of
from executor.cli.printing import Sinks, say
from executor.cli.progress import people
from executor.cli.run import cancel_on_signals, connect_engine
from executor.errors import RequestError
from executor.events import Events
from executor.exits import Exit
from executor.pool.client import PoolClient
from executor.recovery.reaper import Reaper
from executor.reproduction.reproduce import Reproduction, Wanted, plan_again, reproduce
from executor.run.containers import Context
from executor.run.journey import new_run_id
from executor.state.home import open_home
from executor.text import printable
from signing.expect import verify_by_policy

SCHEMA = "executor.reproduction/v1"
_SHOWN_TENSORS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the release, where its inputs are, and how near is near enough."""
    parser.add_argument("release", type=named_path)
    parser.add_argument(
        "--inputs",
        type=named_path,
        action="append",
        default=[],
        metavar="DIR",
        help="look for inputs here, by their digests",
    )
    parser.add_argument("--code", type=named_path, metavar="PATH", help="the job's code, if it is not in the store")
    parser.add_argument("--atol", type=float, help="how far a number may be apart; default: what the profile allows")
    parser.add_argument("--rtol", type=float, help="the same, relative to what was released")
    add_signer_arguments(parser)


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Reproduce, and say what is different."""
    tolerance = _tolerance(args)
    for folder in args.inputs:
        if not folder.is_dir():
            raise RequestError(f"no folder of inputs: {folder}")
    verified = verify_by_policy(args.release, policy_of(args))
    again = plan_again(args.release, verified)
    run_id = new_run_id()
    cancelled, home = cancel_on_signals(), open_home()
    with Reaper(home) as reaper:
        sinks = Sinks()
        try:
            sinks.add(people(sys.stderr))
            engine = connect_engine(cancelled)
            reaper.owed = engine.unremoved
            pool = PoolClient(home, engine, wall_seconds=again.plan.longest_seconds)
            done = reproduce(
                args.release,
                verified,
                again,
                context=Context(home=home, engine=engine, pool=pool, cancelled=cancelled),
                events=Events(run_id, sinks.subscribers),
                run_id=run_id,
                tolerance=tolerance,
                inputs=args.inputs,
                code=args.code,
            )
        finally:
            sinks.close()
    code = Exit.VERIFICATION_FAILED if done.result == "different" else Exit.RELEASED
    wire, lines = _wire(args.release, done, code), _lines(args.release, done)
    say(out, json.dumps(wire, indent=2) if args.json else "\n".join(map(printable, lines)))
    return int(code)


def _tolerance(args: argparse.Namespace) -> Wanted:
    if not all(0 <= value < float("inf") for value in (args.atol, args.rtol) if value is not None):
        raise RequestError("--atol and --rtol are finite and not negative")
    return Wanted(atol=args.atol, rtol=args.rtol)


def _wire(release: Path, done: Reproduction, code: Exit) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "status": done.result,
        "exit_code": int(code),
        "release": str(release),
        "attestation": str(done.path),
        **done.predicate,
    }


def _lines(release: Path, done: Reproduction) -> list[str]:
    lines = []
    for item in done.predicate["artifacts"]:
        lines.append(f"{item['verdict']:<17} {item['name']}{': ' + item['why'] if item['why'] else ''}")
        for tensor in item["tensors"][:_SHOWN_TENSORS]:
            far = f"at most {tensor['max_abs']:.3g} apart in {tensor['elements']} of {_size(tensor['shape'])} elements"
            lines.append(f"                  {tensor['name']} {tensor['shape']}: {far}")
    if differs := done.predicate["plan"]["differs"]:
        lines.append(f"not as recorded in the plan: {', '.join(differs)}")
    return [*lines, f"{done.result}: {release}", f"attestation: {done.path}"]


def _size(shape: list[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
