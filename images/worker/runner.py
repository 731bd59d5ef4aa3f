"""The job's process: picks the procedure, turns what it raises into a message, and never lets it pass as success."""

import importlib
import os
import socket
import sys
import traceback
from typing import Any

from worker.frames import send_json
from worker.job import Job

# Kind to module, so that only the one that is needed gets imported.
PROCEDURES = {
    "train": "worker.procedures.train",
    "script": "worker.procedures.script",
    "inventory": "worker.procedures.inventory",
    "replay": "worker.procedures.replay",
}


def run_job(launch: dict[str, Any], control: socket.socket) -> int:
    """Run the procedure that the launch message names.

    Returns:
        0 if it returned, 1 if it raised, else the code that it asked for with `sys.exit`.
    """
    os.environ["OMP_NUM_THREADS"] = str(launch["threads"])
    try:
        procedure = importlib.import_module(PROCEDURES[launch["kind"]])
        result = procedure.run(Job(launch, control))
        send_json(control, {"type": "result", "result": result or {}})
    except SystemExit as request:
        return _exit_code(request)
    except BaseException as err:  # the outermost frame of the process
        traceback.print_exc()
        sys.stderr.flush()
        message = str(err)[:2000].encode(errors="replace").decode()
        send_json(control, {"type": "error", "error": type(err).__name__, "message": message})
        return 1
    finally:
        sys.stdout.flush()
    return 0


def _exit_code(request: SystemExit) -> int:
    if request.code is None:
        return 0
    return request.code & 0xFF if isinstance(request.code, int) else 1
