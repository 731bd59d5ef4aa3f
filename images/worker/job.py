"""What a job may do: read its inputs and parameters, report progress, and declare outputs.

A `script` job gets the running job from `current()`:

    from worker.job import current
    job = current()
    table = job.inputs["nodes"]          # a pathlib.Path, read-only
    job.progress(epoch=1, loss=0.7)      # numbers, shown live and recorded
    job.output("model.onnx", data)
    job.metrics(test_accuracy=0.81)      # recorded in the manifest as the job's own claim

All of it may be called from threads and from forked children: what they send goes out whole, one after the other.
"""

import ctypes
import errno
import hashlib
import math
import mmap
import os
import re
import socket
from pathlib import Path
from typing import Any

from worker.frames import CHUNK_BYTES, send_bytes, send_json

CODE = Path("/job")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_METRICS_MAX = 256
_VALUES_MAX = 64
# pthread.h of glibc on x86-64
_PTHREAD_ATTRIBUTES_BYTES = 64
_PTHREAD_PROCESS_SHARED = 1
_PTHREAD_MUTEX_ROBUST = 1
_PTHREAD_MUTEX_ERRORCHECK = 2
_LIBC = ctypes.CDLL(None)
_ROLES = ("model", "test-vectors", "report", "data")
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
        self._sent: set[str] = set()
        self.control = control
        self._frame, self._output = _Turn(), _Turn()

    def progress(self, **values: float) -> None:
        """Report named numbers, for the live display and the event stream.

        Raises:
            TypeError: One is no number.
            ValueError: One is not finite, a name is none, or there are more than 64.
        """
        if len(values) > _VALUES_MAX:
            raise ValueError(f"{len(values)} values: at most {_VALUES_MAX} can be reported at once")
        self.send({"type": "progress", "values": _finite(values)})

    def metrics(self, **values: float) -> None:
        """Record named numbers in the manifest, as the job's claims: at most 256.

        Raises:
            TypeError: One is no number.
            ValueError: One is not finite, a name is none, or there are too many.
        """
        claims = self.claims | _finite(values)
        if len(claims) > _METRICS_MAX:
            raise ValueError(f"{len(claims)} metrics: at most {_METRICS_MAX} are recorded")
        self.claims = claims

    def output(self, name: str, content: bytes | str | Path, *, role: str | None = None) -> None:
        """Send one output to the host. The job file must declare its name.

        Args:
            name: Relative path in the release, such as `model.onnx`.
            content: The bytes, a text, or the path of a file.
            role: `model`, `test-vectors`, `report` or `data`; the one that the job file declares where left out.

        Raises:
            TypeError: The content is something else.
            ValueError: The job file does not declare the name, it was sent before, or the role is none.
        """
        if name not in self._roles:
            raise ValueError(f"output {name!r} is not declared in the job file: {sorted(self._roles)}")
        if role is not None and role not in _ROLES:
            raise ValueError(f"role {role!r}: one of {', '.join(_ROLES)}")
        view = memoryview(_bytes_of(content))
        with self._output:
            if name in self._sent:
                raise ValueError(f"output {name!r} was sent already: send it once, at the end")
            self._sent.add(name)
            self.send({"type": "output", "name": name, "role": role or self._roles[name], "size": len(view)})
            for offset in range(0, len(view), CHUNK_BYTES):
                with self._frame:
                    send_bytes(self.control, view[offset : offset + CHUNK_BYTES])
            self.send({"type": "output-end", "sha256": hashlib.sha256(view).hexdigest()})

    def send(self, message: dict[str, Any]) -> None:
        """Send one message. What other threads and forked children send comes before it or after it."""
        with self._frame:
            send_json(self.control, message)


class _Turn:
    """Held by one thread of one process at a time, of all that were forked from the one that made it.

    A robust mutex in shared memory (pthread_mutexattr_setrobust, POSIX.1-2008): the kernel hands it on where its holder
    dies. Locks of files would do as well, but the sandbox refuses them: nobody is charged for their memory.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)  # shared with forked children
        self._mutex = ctypes.byref(ctypes.c_char.from_buffer(self._memory))
        attributes = ctypes.create_string_buffer(_PTHREAD_ATTRIBUTES_BYTES)
        _pthread("mutexattr_init", attributes)
        _pthread("mutexattr_setpshared", attributes, _PTHREAD_PROCESS_SHARED)
        _pthread("mutexattr_setrobust", attributes, _PTHREAD_MUTEX_ROBUST)
        _pthread("mutexattr_settype", attributes, _PTHREAD_MUTEX_ERRORCHECK)
        _pthread("mutex_init", self._mutex, attributes)

    def __enter__(self) -> None:
        try:
            _pthread("mutex_lock", self._mutex)
        except OSError as err:
            if err.errno != errno.EOWNERDEAD:
                raise
            _pthread("mutex_consistent", self._mutex)

    def __exit__(self, *_: object) -> None:
        _pthread("mutex_unlock", self._mutex)


def _pthread(name: str, *arguments: Any) -> None:
    """Call a function of the C library's threads, without the GIL.

    Raises:
        OSError: It failed.
    """
    error = getattr(_LIBC, f"pthread_{name}")(*arguments)
    if error:
        raise OSError(error, f"pthread_{name}: {os.strerror(error)}")


def _bytes_of(content: object) -> bytes | bytearray | memoryview:
    if isinstance(content, Path):
        return content.read_bytes()
    if isinstance(content, str):
        if os.path.isfile(content):  # noqa: PTH113 - which takes any text
            raise TypeError(f"a text that is the path of a file: pass pathlib.Path({content!r})")
        return content.encode()
    if isinstance(content, memoryview):
        return content.cast("B") if content.contiguous else content.tobytes()
    if isinstance(content, (bytes, bytearray)):
        return content
    raise TypeError(f"an output is bytes, text or a pathlib.Path: {type(content).__name__}; save it in a format first")


def _finite(values: dict[str, float]) -> dict[str, float]:
    numbers = {}
    for name, value in values.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a name: {name!r}: use 1 to 64 letters, digits and any of _ . -")
        if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
            raise TypeError(f"{name}: numbers only, not {type(value).__name__}")
        numbers[name] = float(value)
        if not math.isfinite(numbers[name]):
            raise ValueError(f"{name} is {value}: only finite numbers can be reported")
    return numbers


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
