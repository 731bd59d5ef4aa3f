"""What the image commands cost, by hand: `make bench`. Prints one table; nothing passes or fails on a time.

CPU seconds are those of the command and its children; the engine's own are not in them, wall seconds hold all. Each row
is the median of its runs. Everything is done in a state directory of its own that shares inputs with the real one.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from executor.sandbox.docker import DockerEngine
from images.build import blob_of_layer
from images.lock import load_lock
from images.store import BlobStore
from tests.integration.conftest import Finished, raw_engine
from tests.integration.workshop import call, complete_home, copy_inputs, copy_layers, copy_project

LOCK = load_lock("cpu")
RUNS = 3
_IMPORT = (
    "import gc, resource; gc.{collector}(); import torch, torch_geometric, onnx, onnxruntime, pyarrow;"
    "u = resource.getrusage(resource.RUSAGE_SELF); print(u.ru_utime + u.ru_stime)"
)


class Bench:
    """One place to measure in."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.project = copy_project(folder / "project")
        copy_inputs(LOCK, self.home)
        self.store = BlobStore(self.home / "cas/blobs")
        self.env = {"EXECUTOR_HOME": str(self.home), "PATH": os.environ["PATH"]}

    def executor(self, *arguments: str) -> Finished:
        done = call(arguments, project=self.project, env=self.env)
        assert done.code == 0, done.stderr
        return done

    def forget(self, *, bytecode: bool) -> None:
        """Drop layers and notes, and bytecode where asked; inputs stay."""
        for layer in LOCK.expect.layers:
            self.store.path(layer.sha256).unlink(missing_ok=True)
        shutil.rmtree(self.home / "cas/memo", ignore_errors=True)
        if bytecode:
            shutil.rmtree(self.home / "cas/bytecode", ignore_errors=True)


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Return CPU seconds of child processes, and wall seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    work()
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def row(
    title: str, work: Callable[[], object], *, before: Callable[[], object] = lambda: None, runs: int = RUNS
) -> None:
    """Measure something and print its medians."""
    found = []
    for _ in range(runs):
        before()
        found.append(measured(work))
    cpu, wall = (statistics.median(f[i] for f in found) for i in (0, 1))
    print(f"| {title:<84} | {cpu:8.2f} | {wall:8.2f} |", flush=True)


def load_whole(engine: DockerEngine, store: BlobStore) -> None:
    """The engine's own load time: the whole archive, its layers there already or not."""
    engine.load_image(LOCK.image.archive(lambda y: store.open(blob_of_layer(y))))


def edit_worker(bench: Bench) -> None:
    """Change the worker and pin it, which makes its layer."""
    path = bench.project / "images/worker/job.py"
    path.write_text(path.read_text() + f"# {time.monotonic_ns()}\n")


def main() -> None:
    """Measure everything."""
    engine = DockerEngine()
    complete_home()
    with tempfile.TemporaryDirectory(prefix="executor-bench-") as folder:
        bench = Bench(Path(folder))
        print(f"| {f'image cpu, medians of {RUNS} runs':<84} | CPU s    | wall s   |")
        print(f"|{'-' * 86}|{'-' * 10}|{'-' * 10}|")
        build = lambda: bench.executor("image", "build", "cpu")  # noqa: E731
        row("build, inputs cached, bytecode compiled", build, before=lambda: bench.forget(bytecode=True))
        row("build, inputs and bytecode cached", build, before=lambda: bench.forget(bytecode=False))
        row("build, layers cached", build)
        row("verify", lambda: bench.executor("image", "verify", "cpu"))
        row("verify --recompile", lambda: bench.executor("image", "verify", "cpu", "--recompile"), runs=1)
        row("verify --daemon", lambda: bench.executor("image", "verify", "cpu", "--daemon"), runs=1)
        row("load, the engine has the image", lambda: bench.executor("image", "load", "cpu"))
        row("the engine loads the whole archive, layers there already", lambda: load_whole(engine, bench.store))
        shutil.rmtree(bench.store.path(LOCK.expect.layers[0].sha256).parent.parent, ignore_errors=True)
        copy_inputs(LOCK, bench.home)
        copy_layers(LOCK, bench.home)
        bench.executor("image", "build", "cpu")
        bench.executor("image", "lock", "cpu")
        made: list[str] = []

        def relock_and_load() -> None:
            bench.executor("image", "lock", "cpu")
            made.append(json.loads(bench.executor("image", "load", "cpu", "--json").stdout)["image_id"])

        row("worker edited: lock, build and load", relock_and_load, before=lambda: edit_worker(bench))
        for image_id in made:
            raw_engine().remove_image(image_id, force=True)
    for collector, how in (("disable", "as the worker does, collector paused"), ("enable", "plain")):
        seconds = statistics.median(_import_seconds(collector) for _ in range(5))
        print(f"| {f'import torch, PyG, onnx, onnxruntime, pyarrow: {how}':<84} | {seconds:8.2f} |          |")


def _import_seconds(collector: str) -> float:
    """CPU seconds of the imports alone, in a container sealed as jobs are."""
    options = ["--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    options += [
        "--tmpfs=/tmp",
        "--entrypoint=/usr/bin/python3.11",
        LOCK.expect.image_id,
        "-I",
        "-B",
        "-c",
        _IMPORT.format(collector=collector),
    ]
    done = subprocess.run(["docker", "run", *options], capture_output=True, text=True, timeout=300, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
