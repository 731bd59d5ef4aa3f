"""Kind `inventory`: list statically what the quarantined artifacts hold. Runs in a clean container, without torch.

Each artifact is looked at in a process of its own, whose memory, CPU time and report the kernel and this one bound: an
artifact that is made to be slow or large denies itself alone. Many of them can use up the inspection's wall limit,
which denies all.
"""

import json
import mmap
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from worker.bounds import Bounds, bounds_after
from worker.environment import environment
from worker.inventory import Inventory, sniff
from worker.inventory.arrays import npy_inventory, npz_inventory
from worker.inventory.documents import json_inventory, text_inventory
from worker.inventory.elf import inventory as elf_inventory
from worker.inventory.onnx_model import inventory as onnx_inventory
from worker.inventory.pickles import checkpoint_inventory
from worker.inventory.pickles import inventory as pickle_inventory
from worker.inventory.pt2 import inventory as pt2_inventory
from worker.inventory.report import Data
from worker.inventory.safetensors import inventory as safetensors_inventory
from worker.inventory.tables import arrow_inventory, parquet_inventory
from worker.inventory.torchscript import inventory as torchscript_inventory
from worker.job import Job

MEMORY_BYTES_MAX = 1 << 30  # private memory: what is mapped of the artifact itself does not count
REPORT_BYTES_MAX = 512 << 10
_RESULT_BYTES_MAX = 900 << 10  # of all reports together: they travel in one frame
_READERS: dict[str, Callable[[Data], Inventory]] = {
    "onnx": onnx_inventory,
    "torchscript": torchscript_inventory,
    "pt2": pt2_inventory,
    "elf": elf_inventory,
    "npz": npz_inventory,
    "npy": npy_inventory,
    "safetensors": safetensors_inventory,
    "checkpoint": checkpoint_inventory,
    "pickle": pickle_inventory,
    "arrow": arrow_inventory,
    "parquet": parquet_inventory,
    "json": json_inventory,
    "text": text_inventory,
}


def run(job: Job) -> dict[str, Any]:
    """Return the inventory of every input, by its name, and what the image is."""
    artifacts: dict[str, Any] = {}
    room = _RESULT_BYTES_MAX
    bounds = bounds_after(time.process_time())
    for name, path in job.inputs.items():
        report = in_bounds(path, bounds)
        size = len(json.dumps(report))
        if size > room:
            report = _failed("the reports of all artifacts together are too long")
        room -= min(size, room)
        artifacts[name] = report
    plugins = {name: in_bounds(Path(plugin["path"]), bounds) for name, plugin in job.params["plugins"].items()}
    return {"artifacts": artifacts, "plugins": plugins, "environment": environment()}


def look_at(data: Data) -> dict[str, Any]:
    """Return the inventory of an artifact, in this process and without bounds."""
    found = sniff(data)
    reader = _READERS.get(found)
    return (reader(data) if reader else Inventory(found)).to_wire()


def in_bounds(path: Path, bounds: Bounds) -> dict[str, Any]:
    """Return the inventory of an artifact, from a forked process that is killed where it goes beyond its bounds."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(path, bounds, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read(REPORT_BYTES_MAX + 1)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if len(text) > REPORT_BYTES_MAX:
        return _failed(f"its report is longer than {REPORT_BYTES_MAX} bytes")
    if code != 0:
        reasons = {-signal.SIGXCPU: f"more than {bounds.cpu_seconds} CPU seconds", -signal.SIGALRM: "too long"}
        return _failed(reasons.get(code, f"the process that looked at it ended with status {code}"))
    report: dict[str, Any] = json.loads(text)
    return report


def _child(path: Path, bounds: Bounds, writer: int) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(bounds.wall_seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (bounds.cpu_seconds, bounds.cpu_seconds + 1))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) if size else b""
            text = json.dumps(look_at(memoryview(data))).encode()
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(text)
        code = 0
    finally:
        os._exit(code)


def _failed(reason: str) -> dict[str, Any]:
    report = Inventory("unknown")
    report.find("INVENTORY-FAILED", "file", reason)
    return report.to_wire()
