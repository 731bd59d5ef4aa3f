"""The entry point: makes sure of what everything else relies on, before any of it is imported.

A `policy/` folder in the working directory must never be loaded in place of the installed one. So this module imports
the standard library alone until it has looked. Whatever keeps the command from starting is said in one line, as JSON
where that was asked for, and with an exit code of the table.
"""

import atexit
import gc
import importlib.util
import json
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

from executor.cli.descriptors import let_go, open_missing

_HOST_PERMANENT, _INTERRUPTED = 31, 130  # executor.exits may not be imported yet
_MEMORY_MIN = 128 << 20  # of address space: below it Python itself fails, in ways of its own (measured 2026-12-01)
_HINT = "install into an environment of its own; start it as `executor` or `python -I -m executor`"
_MEMORY_HINT = f"the command needs {_MEMORY_MIN >> 20} MiB of address space: ulimit -v {_MEMORY_MIN >> 10}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    open_missing()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if 0 <= resource.getrlimit(resource.RLIMIT_AS)[0] < _MEMORY_MIN:
            return _fail("not enough memory", arguments, hint=_MEMORY_HINT)
        if (message := foreign_package()) is not None:
            return _fail(message, arguments)
        if arguments[:1] == ["verify"]:
            gc.disable()  # it is over in a blink, of which collecting nothing took a seventh (measured 2026-11-24),
            atexit.register(gc.freeze)  # and the interpreter's end another twentieth (2026-11-25)
        try:
            from executor.cli.app import run
        except (ImportError, OSError) as err:
            return _fail(f"the executor cannot be loaded: {err}", arguments)
        return run(arguments)
    except MemoryError:
        return _fail("not enough memory", arguments, hint=_MEMORY_HINT)
    except KeyboardInterrupt:  # before or after the command's own
        return _INTERRUPTED
    finally:
        let_go()


def foreign_package() -> str | None:
    """Return what is wrong where `images`, `policy` or `signing` would come from elsewhere than `executor` does."""
    home = Path(__file__).resolve().parents[2]
    for name in ("images", "policy", "signing"):
        found = importlib.util.find_spec(name)
        origin = Path(found.origin).resolve().parents[1] if found and found.origin else None
        if origin != home:
            return f"package {name!r} comes from another place than the executor: {origin}"
    return None


def _fail(message: str, arguments: list[str], *, hint: str = _HINT) -> int:
    error = {"code": "E-UNSUPPORTED", "message": message, "hint": hint}
    document = {"schema": "executor.error/v1", "status": "host_fault", "exit_code": _HOST_PERMANENT, "error": error}
    for descriptor, text in ((2, f"error: {message}\n\nhint: {hint}\n"), (1, json.dumps(document, indent=2) + "\n")):
        if descriptor == 2 or "--json" in arguments:
            try:
                os.write(descriptor, text.encode(errors="backslashreplace"))
            except OSError:  # the exit code says it as well
                continue
    return _HOST_PERMANENT
