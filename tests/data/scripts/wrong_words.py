"""Says everything wrong that the job's own interface can be told, and sends what came of it."""

import json
from pathlib import Path

import numpy
from worker.job import current

job = current()
Path("/tmp/there.txt").write_text("a")


def told(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except (TypeError, ValueError) as err:
        return f"{type(err).__name__}: {err}"
    return "taken"


found = {
    "text for a number": told(job.progress, phase="train"),
    "text that is a number": told(job.metrics, loss="0.5"),
    "a name with a space": told(job.metrics, **{"a b": 1}),
    "an escape": told(job.metrics, **{"\x1b[31m": 1}),
    "no name": told(job.progress, **{"": 1}),
    "256 metrics": told(job.metrics, **{f"m{n}": n for n in range(256)}),
    "257 metrics": told(job.metrics, **{f"m{n}": n for n in range(257)}),
    "65 values": told(job.progress, **{f"m{n}": n for n in range(65)}),
    "64 values": told(job.progress, **{f"m{n}": n for n in range(64)}),
    "a numpy number": told(job.progress, loss=numpy.float32(0.5), epoch=numpy.int64(3), ok=True),
    "an array": told(job.output, "a.json", numpy.zeros((4, 4), "float32")),
    "a mapping": told(job.output, "a.json", {"a": 1}),
    "a path as text": told(job.output, "a.json", "/tmp/there.txt"),
    "a role that is none": told(job.output, "a.json", b"a", role="reports"),
    "a view of numbers": told(job.output, "a.json", memoryview(numpy.frombuffer(b'"abcdef"', "int32"))),
    "sent twice": told(job.output, "a.json", b"again"),
    "a path": told(job.output, "b.txt", Path("/tmp/there.txt")),
}
job.output("found.json", json.dumps(found))
