"""Parses the command line and renders what comes of it.

stdout is data and stderr is talk: file descriptor 1 is put aside and pointed at stderr before anything else is
imported, so that no library's stray print can spoil the data.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from executor import __version__
from executor.errors import HostError
from executor.exits import Exit
from executor.report import failure_wire, render_error, status_of

# Subcommand to its one-line help. The module of the same name under executor.cli does the rest.
COMMANDS = {
    "run": "run a job and release what passes",
    "plan": "print what `run` would do, without doing it",
    "verify": "verify a release, offline",
    "image": "lock, build and load images",
    "doctor": "check this host and clean up after dead runs",
    "schema": "print a JSON Schema",
    "version": "print the version",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    out = _data_stream()
    parser = _parser(arguments)
    args = parser.parse_args(arguments)
    try:
        check_distribution()
        module = importlib.import_module(f"executor.cli.{args.command}")
        code: int = module.execute(args, out)
        return code
    except KeyboardInterrupt as err:
        return _fail(err, args, out)
    except Exception as err:  # the outermost frame
        return _fail(err, args, out)
    finally:
        _flush(out)


def check_distribution() -> None:
    """Refuse to work with packages of another origin: a `policy/` folder in the way must never be loaded.

    Raises:
        HostError: `images`, `policy` or `signing` would come from elsewhere than `executor` does.
    """
    home = Path(__file__).resolve().parents[2]
    for name in ("images", "policy", "signing"):
        found = importlib.util.find_spec(name)
        origin = Path(found.origin).resolve().parents[1] if found and found.origin else None
        if origin != home:
            raise HostError(
                f"package {name!r} comes from another place than the executor: {origin}",
                hint="install into an environment of its own; start it as `executor` or `python -I -m executor`",
            )


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="executor", description="Runs untrusted PyTorch jobs sealed, and releases what passes, signed."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    asked = next((a for a in arguments if not a.startswith("-")), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument("--json", action="store_true", help="print one JSON object, on failure too")
        if name == asked:  # only this one's module is imported
            importlib.import_module(f"executor.cli.{name}").add_arguments(command)
    return parser


class _Parser(argparse.ArgumentParser):
    """argparse with this project's exit code and messages for a wrong command line."""

    def error(self, message: str) -> "None":  # type: ignore[override]
        self.exit(int(Exit.INVALID_REQUEST), f"error: {message}\n\nhint: {self.prog} --help\n")


def _fail(error: BaseException, args: argparse.Namespace, out: TextIO) -> int:
    status = status_of(error)
    if status[1] is Exit.INTERNAL:
        import traceback

        traceback.print_exc()
    print(render_error(error), file=sys.stderr)
    if args.json:
        out.write(json.dumps(failure_wire(error), indent=2) + "\n")
    return int(status[1])


def _data_stream() -> TextIO:
    """Put the real stdout aside for data, and let everything else that prints reach stderr."""
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


def _flush(out: TextIO) -> None:
    with contextlib.suppress(BrokenPipeError):  # the reader may go when it likes
        out.close()
