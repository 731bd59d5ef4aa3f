"""Parses the command line and renders what comes of it.

stdout is data and stderr is talk: file descriptor 1 is put aside and pointed at stderr before anything else is
imported, so that no library's stray print can spoil the data.
"""

import argparse
import errno
import fcntl
import importlib
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, TextIO

from executor import __version__
from executor.cli.printing import say
from executor.errors import RequestError

# Subcommand to its one-line help. The module of the same name under executor.cli does the rest.
COMMANDS = {
    "run": "run a job and release what passes",
    "plan": "print what `run` would do, without doing it",
    "verify": "verify a release, offline",
    "reproduce": "run a release's plan again and compare",
    "trust": "choose who signs, and look after keys and log",
    "pool": "keep containers ready for runs",
    "policy": "check, compare and explain the policy's files",
    "image": "lock, build and load images",
    "doctor": "check this host and clean up after dead runs",
    "schema": "print a JSON Schema",
    "version": "print the version",
}
# What has done its work when it prints, and is not to be done again because a line was lost.
_ENDED = {
    "run": (None,),
    "reproduce": (None,),
    "trust": ("init", "rotate", "revoke"),
    "image": ("build", "load", "lock", "push", "pull"),
    "pool": ("start", "stop"),
}


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    out, code, asked = _data_stream(), 0, ("", None)
    try:
        try:
            args = _parser(arguments, out).parse_args(arguments)
            asked = (args.command, getattr(args, "action", None))
            code = importlib.import_module(f"executor.cli.{args.command}").execute(args, out)
        except _UnwritableError:
            raise
        except SystemExit:  # argparse's, after help
            pass
        except (Exception, KeyboardInterrupt) as caught:  # the outermost frame
            err = _known(caught)
            code = _fail(err)
            if "--json" in arguments:
                _write_failure(err, out)
        out.close()
    except _UnwritableError as err:
        return _without_stdout(err, code, asked)
    return code


def _parser(arguments: Sequence[str], out: TextIO) -> argparse.ArgumentParser:
    class Parser(_Parser):
        """Prints help and version where the data goes, for that is what they are when asked for."""

        def _print_message(self, message: str, _file: object = None) -> None:
            out.write(message)

    parser = Parser(
        prog="executor",
        formatter_class=_Help,
        description="Runs untrusted PyTorch jobs sealed, and releases what passes, signed.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser, prog="executor"
    )
    asked = next((a for a in arguments if not a.startswith("-")), None)
    first = arguments[0] if arguments else None
    # Whoever names a command first asks for no list of them, and need not wait until there is one.
    for name, text in ({first: COMMANDS[first]} if first in COMMANDS else COMMANDS).items():
        description = text[0].upper() + text[1:] + "."
        command = commands.add_parser(name, help=text, description=description, formatter_class=_Help)
        command.add_argument("--json", action="store_true", help="print one JSON object, on failure too")
        if name == asked:  # only this one's module is imported
            importlib.import_module(f"executor.cli.{name}").add_arguments(command)
    return parser


class _Help(argparse.HelpFormatter):
    """Help of one width anywhere. To ask for the terminal's, argparse imports three compression libraries."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100)


class _Parser(argparse.ArgumentParser):
    """argparse with this project's errors for a wrong command line, and with options by their whole names alone."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        raise RequestError(message, hint=f"{self.prog} --help")


def _known(error: BaseException) -> BaseException:
    """Return the HostError that stands for a system error, or the error itself."""
    from executor.status import host_fault

    return host_fault(error) or error


def _fail(error: BaseException) -> int:
    """Say what went wrong, and return the exit code for it."""
    from executor.exits import Exit  # what succeeds starts without them
    from executor.status import render_error, status_of

    status = status_of(error)
    if status[1] is Exit.INTERNAL:
        import traceback  # nobody else waits for it

        say(sys.stderr, "".join(traceback.format_exception(error)).rstrip())
    say(sys.stderr, render_error(error))
    return int(status[1])


def _write_failure(error: BaseException, out: TextIO) -> None:
    from executor.status import failure_wire

    out.write(json.dumps(failure_wire(error), indent=2) + "\n")


class _UnwritableError(OSError):
    """stdout cannot be written to."""


class _Stdout(io.FileIO):
    """A descriptor whose errors are told from those of other files."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as err:
            raise _UnwritableError(err.errno, err.strerror) from err

    def close(self) -> None:
        try:
            super().close()
        except OSError as err:  # some file systems say only now that they could not write
            raise _UnwritableError(err.errno, err.strerror) from err


def _data_stream() -> TextIO:
    """Put the real stdout aside for data, and let everything else that prints reach stderr."""
    try:
        descriptor = os.dup(1)
        sys.stdout.flush()
    except OSError:  # it is closed, and `sys.stdout` is None: nobody wants the data
        closed = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        descriptor = fcntl.fcntl(closed, fcntl.F_DUPFD_CLOEXEC, 3)  # the first free one is 1, which stderr takes
    # What cannot be encoded, such as a name that is not Unicode, is shown escaped.
    stream = io.TextIOWrapper(io.BufferedWriter(_Stdout(descriptor, "w")), encoding="utf-8", errors="backslashreplace")
    os.dup2(2, 1)
    return stream


def _without_stdout(error: _UnwritableError, code: int, asked: tuple[str, str | None]) -> int:
    """Return the exit code where data was lost: a reader may go when it likes; a full disk is a failure.

    What has been done stands: a lost line must not have it done again.
    """
    if error.errno == errno.EPIPE:
        return code
    say(sys.stderr, f"error: cannot write to stdout: {error.strerror}")
    if code != 0 or asked[1] in _ENDED.get(asked[0], ()):
        return code
    from executor.exits import Exit

    return int(Exit.HOST_RETRYABLE)
