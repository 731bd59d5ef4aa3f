"""Builds hostile and malformed artifacts, looks at each as the inventory does, and loads each as a consumer would.

Reports, for each, the inventory and what it took, and whether loading left the marker: that it is hostile indeed.
"""

import gc
import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

began = time.process_time()
from worker.procedures.inventory import bounds_after, in_bounds  # noqa: E402

BOUNDS = bounds_after(time.process_time() - began)

import archives  # noqa: E402
import data  # noqa: E402
import onnx_models  # noqa: E402
import pickled  # noqa: E402
import programs  # noqa: E402
from sample import MARKER  # noqa: E402
from worker.job import current  # noqa: E402

LOAD_SECONDS = 60


def fires(sample, path):
    """Load a sample in a process of its own, and return whether the marker is there."""
    if sample.load is None:
        return None
    pid = os.fork()
    if pid == 0:
        signal.alarm(LOAD_SECONDS)
        os.dup2(os.open("/dev/null", os.O_RDWR), 0)
        try:
            sample.load(path)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    marker, found = Path(MARKER), Path(MARKER).exists()
    if marker.is_dir():
        shutil.rmtree(marker)
    marker.unlink(missing_ok=True)
    Path(MARKER + ".npy").unlink(missing_ok=True)
    return found


def watched(path):
    """Return the inventory of a file in a process of its own, with the CPU seconds and the memory that it took."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        began = time.process_time()
        report = in_bounds(path, BOUNDS)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        line = {
            "report": report,
            "cpu_seconds": used.ru_utime + used.ru_stime + time.process_time() - began,
            "peak_bytes": used.ru_maxrss * 1024,
        }
        with os.fdopen(writer, "w") as pipe:
            json.dump(line, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        line = json.load(pipe)
    os.waitpid(pid, 0)
    return line


job = current()
path, seen = Path("/tmp/sample"), []
gc.freeze()
for module in (pickled, archives, programs, data, onnx_models):
    for sample in module.samples():
        path.write_bytes(sample.data)
        began = time.monotonic()
        line = watched(path)
        line |= {
            "kind": sample.kind,
            "name": sample.name,
            "ending": sample.ending,
            "wall_seconds": time.monotonic() - began,
            "report_bytes": len(json.dumps(line["report"])),
            "fired": fires(sample, path),
            "cpu_seconds_max": BOUNDS.cpu_seconds,
        }
        seen.append(line)
        job.progress(samples=float(len(seen)))
job.output("seen.json", json.dumps(seen))
