"""`executor` in a pid namespace where a busy process has the number that each container's process 1 has on the host.

Run by the tests as `unshare --pid --fork --mount-proc python -m tests.fakes.stranger ARGUMENTS`.
"""

import subprocess
from pathlib import Path

from executor.cli.main import main
from executor.sandbox.docker import DockerEngine

_BUSY = ["sh", "-c", "(while :; do :; done) & wait"]
_start = DockerEngine.start


def start_beside_a_stranger(engine: DockerEngine, container_id: str) -> None:
    """Start a container, and a process of its number here. All of them go with the namespace."""
    _start(engine, container_id)
    number = engine.state(container_id).pid
    while True:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1), encoding="ascii")
        stranger = subprocess.Popen(_BUSY)
        if stranger.pid == number:
            return
        stranger.terminate()  # a thread took the number: its next owner is a process
        stranger.wait()


if __name__ == "__main__":
    DockerEngine.start = start_beside_a_stranger  # type: ignore[method-assign, assignment]
    raise SystemExit(main())
