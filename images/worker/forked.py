"""Work on one artifact in a process of its own, so that one cannot change how the next is seen."""

import json
import os
from collections.abc import Callable
from typing import Any, NoReturn

_RESULT_BYTES_MAX = 1 << 20


def in_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run in a forked process; what it raises, or dies of, becomes an `error`."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(work, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read(_RESULT_BYTES_MAX + 1)
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0 or len(data) > _RESULT_BYTES_MAX:
        return {"error": f"the process that loaded it ended with status {os.waitstatus_to_exitcode(status)}"}
    result: dict[str, Any] = json.loads(data)
    return result


def _child(work: Callable[[], dict[str, Any]], writer: int) -> NoReturn:
    code = 1
    try:
        try:
            result = work()
        except Exception as err:  # whatever a runtime raises on a file is this file's result
            result = {"error": f"{type(err).__name__}: {str(err)[:1000]}"}
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(json.dumps(result).encode())
        code = 0
    finally:
        os._exit(code)
