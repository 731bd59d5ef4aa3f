"""What a job may do: read its inputs and parameters, report progress, and declare outputs.

A `script` job gets the running job from `current()`:

    from worker.job import current
    job = current()
    table = job.inputs["nodes"]          # a pathlib.Path, read-only
    job.progress(epoch=1, loss=0.7)      # numbers, shown live and recorded
    job.output("model.onnx", data)
    job.metrics(test_accuracy=0.81)      # recorded in the manifest as the job's own claim
"""

import hashlib
import math
import socket
from pathlib import Path
from typing import Any

from worker.frames import CHUNK_BYTES, send_bytes, send_json

CODE = Path("/job")
_current: "Job | None" = None


class Job:
    """One running job.

    Attributes:
        kind: The job's kind.
        params: Parameters from the job file.
        seed: Seed from the job file.
        inputs: Input files by name.
        entry: The caller's file to run within `CODE`, or None.
        threads: How many CPU threads the limits allow.
        control: The channel to the host.
    """

    def __init__(self, launch: dict[str, Any], control: socket.socket) -> None:
        self.kind: str = launch["kind"]
        self.params: dict[str, Any] = launch["params"]
        self.seed: int = launch["seed"]
        self.threads: int = launch["threads"]
        self.inputs = {name: Path(path) for name, path in launch["inputs"].items()}
        self.entry: str | None = launch.get("entry")
        self.claims: dict[str, float] = {}
        self._roles: dict[str, str] = launch["outputs"]
        self.control = control

    def progress(self, **values: float) -> None:
        """Report named numbers, for the live display and the event stream."""
        send_json(self.control, {"type": "progress", "values": _finite(values)})

    def metrics(self, **values: float) -> None:
        """Record named numbers in the manifest, as the job's claims."""
        self.claims.update(_finite(values))

    def output(self, name: str, content: bytes | str | Path, *, role: str | None = None) -> None:
        """Send one output to the host. The job file must declare its name.

        Args:
            name: Relative path in the release, such as `model.onnx`.
            content: The bytes, a text, or the path of a file.
            role: `model`, `test-vectors`, `report` or `data`; the one that the job file declares where left out.

        Raises:
            ValueError: The job file does not declare the name.
        """
        if name not in self._roles:
            raise ValueError(f"output {name!r} is not declared in the job file: {sorted(self._roles)}")
        data = content.read_bytes() if isinstance(content, Path) else content
        view = memoryview(data.encode() if isinstance(data, str) else data)
        send_json(
            self.control,
            {"type": "output", "name": name, "role": role or self._roles[name], "size": len(view)},
        )
        for offset in range(0, len(view), CHUNK_BYTES):
            send_bytes(self.control, view[offset : offset + CHUNK_BYTES])
        send_json(self.control, {"type": "output-end", "sha256": hashlib.sha256(view).hexdigest()})


def _finite(values: dict[str, float]) -> dict[str, float]:
    for name, value in values.items():
        if not math.isfinite(float(value)):
            raise ValueError(f"{name} is {value}: only finite numbers can be reported")
    return {name: float(value) for name, value in values.items()}


def current() -> Job:
    """Return the job that this script is.

    Raises:
        RuntimeError: No job is running in this process.
    """
    if _current is None:
        raise RuntimeError("no job is running in this process")
    return _current


def make_current(job: Job) -> None:
    """Set what `current` returns. For the `script` procedure."""
    global _current
    _current = job
