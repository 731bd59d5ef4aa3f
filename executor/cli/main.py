"""The entry point: refuses to work with packages of another origin, before any of them is imported.

A `policy/` folder in the working directory must never be loaded in place of the installed one. So this module imports
the standard library alone until it has looked.
"""

import atexit
import gc
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

_HOST_PERMANENT = 31  # executor.exits may not be imported yet
_HINT = "install into an environment of its own; start it as `executor` or `python -I -m executor`"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if (message := foreign_package()) is not None:
        print(f"error: {message}\n\nhint: {_HINT}", file=sys.stderr)
        if "--json" in arguments:
            error = {"code": "E-HOST", "message": message, "hint": _HINT}
            document = {"schema": "executor.error/v1", "status": "host_fault", "exit_code": _HOST_PERMANENT}
            print(json.dumps(document | {"error": error}))
        return _HOST_PERMANENT
    if arguments[:1] == ["verify"]:
        gc.disable()  # it is over in a blink, of which collecting nothing took a seventh (measured 2026-11-24),
        atexit.register(gc.freeze)  # and the interpreter's end another twentieth (2026-11-25)
    from executor.cli.app import run

    return run(arguments)


def foreign_package() -> str | None:
    """Return what is wrong where `images`, `policy` or `signing` would come from elsewhere than `executor` does."""
    home = Path(__file__).resolve().parents[2]
    for name in ("images", "policy", "signing"):
        found = importlib.util.find_spec(name)
        origin = Path(found.origin).resolve().parents[1] if found and found.origin else None
        if origin != home:
            return f"package {name!r} comes from another place than the executor: {origin}"
    return None
