"""The job's process: picks the procedure, turns what it raises into a message, and never lets it pass as success."""

import gc
import importlib
import os
import resource
import socket
import sys
import traceback
from typing import Any

from worker.frames import receive_json, send_json
from worker.job import Job

# Kind to module, so that only the one that is needed gets imported.
PROCEDURES = {
    "train": "worker.procedures.train",
    "script": "worker.procedures.script",
    "inventory": "worker.procedures.inventory",
    "replay": "worker.procedures.replay",
    "compare": "worker.procedures.compare",
    "egress": "worker.procedures.egress",
}


# What a container of a kind has imported before it waits, where it is kept warm. A script's own imports then find torch
# there; what the others need hangs on their procedure.
_PRELOADS = {
    "script": ("torch", "torch_geometric", "worker.procedures.script"),
    "replay": ("torch", "onnxruntime", "worker.procedures.replay"),
}
# How often a thread of libgomp looks for work before it sleeps. By default it is some 300,000 times, in which a thread
# that has the CPU keeps it from the one that it waits for: two threads of torch beside two busy loops on two cores took
# 39.5 s and 38.7 CPU s for what takes 4.2 and 3.9 in this way; alone 2.1 s and 2.2 (2026-11).
_SPINS = "1000"
_CPU_GRACE_SECONDS = 5  # between the signal that says so and the kill


def run_job(prepare: dict[str, Any], control: socket.socket) -> int:
    """Get ready, wait for the launch message, and run the procedure that it names.

    Returns:
        0 if it returned, 1 if it raised, else the code that it asked for with `sys.exit`.
    """
    os.environ["OMP_NUM_THREADS"] = str(prepare["threads"])
    os.environ["GOMP_SPINCOUNT"] = _SPINS
    if prepare["preload"]:
        for name in _PRELOADS.get(prepare["kind"], (PROCEDURES[prepare["kind"]],)):
            _import(name)
        send_json(control, {"type": "warm"})
    launch = receive_json(control)
    _limit_cpu(launch["cpu_seconds"])
    job = Job(launch, control)
    try:
        procedure = _import(PROCEDURES[launch["kind"]])
        result = procedure.run(job)
        job.send({"type": "result", "result": result or {}})
    except SystemExit as request:
        return _end_as_asked(request, job)
    except BaseException as err:  # the outermost frame of the process
        traceback.print_exc()
        sys.stderr.flush()
        _send_error(job, type(err).__name__, str(err))
        return 1
    finally:
        sys.stdout.flush()
    return 0


def _import(name: str) -> Any:
    """Import with the collector paused: of torch's million objects none is garbage, and walking them takes time.

    Measured 2026-11 for torch, torch_geometric, onnx, onnxruntime and pyarrow: 3.2 CPU s paused, 3.9 not.
    """
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def _limit_cpu(seconds: int) -> None:
    """Set the backstop of this process and its children: it is for good, because raising it takes a capability."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = seconds + int(used.ru_utime + used.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + _CPU_GRACE_SECONDS))


def _end_as_asked(request: SystemExit, job: Job) -> int:
    """`sys.exit()` and `sys.exit(0)` finish a job, a number fails it, and a text says why."""
    if request.code in (None, 0):
        job.send({"type": "result", "result": {"metrics": job.claims}})
        return 0
    if isinstance(request.code, int):
        return (request.code & 0xFF) or 1
    print(request.code, file=sys.stderr, flush=True)
    _send_error(job, "SystemExit", str(request.code))
    return 1


def _send_error(job: Job, kind: str, message: str) -> None:
    text = message[:2000].encode(errors="replace").decode()
    job.send({"type": "error", "error": kind, "message": text})
