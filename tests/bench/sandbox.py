"""What a sandbox costs: warm, cold, beside plain `docker run`, and while its job sleeps. By hand: `make bench`.

All ways take turns in one process, so that a busy moment of the machine hits each alike.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from executor.events import Events
from executor.job.prepare import Prepared, prepare
from executor.pool.client import PoolClient, ask
from executor.pool.stock import PoolClass
from executor.pool.supervisor import Pool, PoolSettings, starts_max
from executor.run.containers import Context, Stages
from executor.sandbox.cgroup import find_usage_files, read_cpu_seconds, read_process_1_seconds
from executor.sandbox.docker import DockerEngine
from executor.sandbox.engine import OwnedContainer
from executor.state.home import Home
from executor.state.owner import LABEL_RUN, claim_run_folder, home_label, parse_owner

POOL = 40
OTHERS_EVERY = 25
SETTLE_SECONDS = 2.0  # what the engine still does for a container that has ended is not the next job's
WHOLE_RUNS = 15
# Says at once that it runs, then whether anybody was here before, and leaves a mark for whoever comes after.
CODE = """
import os, torch
from pathlib import Path
from worker.job import current
job = current()
job.progress(first=1)
mark = Path('/tmp/was-here')
seen = mark.exists()
mark.write_text('x')
job.output('out.txt', f'{os.uname().nodename} {seen} {float(torch.ones(3).sum())}')
"""
# Sleeps with torch's threads and pyarrow's there, as most jobs that wait would.
SLEEPING_CODE = """
import time, pyarrow.parquet, torch
from worker.job import current
torch.ones(800, 800) @ torch.ones(800, 800)
current().progress(sleeping=1)
time.sleep(3600)
"""
SLEEPING_SECONDS = 10.0
PLAIN = "import torch, sys; print(float(torch.ones(3).sum())); sys.stdout.flush()"


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def write_job(folder: Path) -> Path:
    (folder / "main.py").write_text(CODE)
    job = {"apiVersion": "executor/v1", "kind": "script", "code": {"path": "main.py"}, "outputs": [{"name": "out.txt"}]}
    (folder / "job.json").write_text(json.dumps(job))
    return folder / "job.json"


def serve(job: str) -> None:
    """Be the pool: only the job's own kind, so that the machine's memory is enough for many."""
    home = Home(Path(os.environ["EXECUTOR_HOME"]))
    plan = prepare(Path(job), home=home).plan
    settings = PoolSettings(lease_seconds=3600, starts_max=starts_max())
    classes = [PoolClass(kind=plan.kind, config=plan.job, size=POOL)]
    Pool(DockerEngine(), home, classes, settings=settings, say=lambda _: None).run()


@contextlib.contextmanager
def pool(home: Home, job: Path) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.sandbox", "serve", str(job)])
    try:
        yield
    finally:
        ask(home, "stop", seconds=10)
        process.wait(120)


def wait_until_full(home: Home) -> None:
    while (status := ask(home, "status", seconds=10)) is None or status["classes"][0]["ready"] < POOL:
        time.sleep(0.2)


class Dispatcher:
    """Runs one job, and says when its first frame came and what it sent."""

    def __init__(self, home: Home, prepared: Prepared) -> None:
        self._home, self._prepared, self._engine = home, prepared, DockerEngine()
        self._count = 0

    def run(self, *, warm: bool) -> tuple[float, float, str]:
        """Return seconds from dispatch to the first frame, to the end, and what the job sent."""
        self._count += 1
        run_id, heard = f"bench-{os.getpid()}-{self._count}", []
        folder = claim_run_folder(self._home, run_id, wall_seconds=600)
        for name in ("in", "code", "log"):
            (folder / name).mkdir()
        (folder / "code/main.py").write_text(CODE)

        def listen(event: dict[str, Any]) -> None:
            if event["event"] == "progress":
                heard.append(time.monotonic())

        client = PoolClient(self._home, self._engine, wall_seconds=600)
        context = Context(home=self._home, engine=self._engine, pool=client if warm else None)
        plan = self._prepared.plan
        stages = Stages(
            plan=plan,
            image_id=plan.job.image_id,
            run_id=run_id,
            folder=folder,
            context=context,
            events=Events(run_id, (listen,)),
        )
        began = time.monotonic()
        result, artifacts = stages.run_job(folder / "log")
        ended = time.monotonic()
        assert result.warm == warm, "the pool had none"
        text = artifacts[0].path.read_text()
        client.close()
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        return heard[0] - began, ended - began, text


def plain_docker(image_id: str) -> tuple[float, float]:
    """Return seconds to the first byte and to the end of `docker run` of the same image, importing torch."""
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "/usr/bin/python3.11", image_id]
    began = time.monotonic()
    with subprocess.Popen([*command, "-I", "-c", PLAIN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        first = time.monotonic() - began
    return first, time.monotonic() - began


def dispatches(jobs: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["EXECUTOR_HOME"] = str(folder / "home")
        home, job = Home(folder / "home"), write_job(folder)
        prepared = prepare(job, home=home)
        dispatcher = Dispatcher(home, prepared)
        times: dict[str, list[float]] = {"warm": [], "warm, to the end": [], "cold": [], "docker run": []}
        sent: list[str] = []
        with pool(home, job):
            while len(times["warm"]) < jobs:
                wait_until_full(home)
                for _ in range(min(POOL, jobs - len(times["warm"]))):
                    first, end, text = dispatcher.run(warm=True)
                    times["warm"].append(first)
                    times["warm, to the end"].append(end)
                    sent.append(text)
                    if len(times["warm"]) % OTHERS_EVERY == 0:
                        times["cold"].append(dispatcher.run(warm=False)[0])
                        times["docker run"].append(plain_docker(prepared.plan.job.image_id)[0])
                        time.sleep(SETTLE_SECONDS)
        hosts = [text.split()[0] for text in sent]
        assert len(set(hosts)) == len(sent), "a container served two jobs"
        assert {text.split(maxsplit=1)[1] for text in sent} == {"False 3.0"}, "a container had been used before"
        print(f"dispatch to first frame, torch imported, {jobs} warm jobs, each in a container of its own: ms")
        base = quantile(times["warm"], 0.5)
        for way, seconds in times.items():
            shown = [quantile(seconds, share) * 1000 for share in (0.0, 0.5, 0.95, 0.99)]
            print(
                f"  {way:18} n {len(seconds):4}  min {shown[0]:8.1f}  p50 {shown[1]:8.1f}  p95 {shown[2]:8.1f}"
                f"  p99 {shown[3]:8.1f}  p50 over warm {quantile(seconds, 0.5) / base:7.1f}"
            )


def sleeping(folder: Path, way: str) -> None:
    """Print what the container of a job that sleeps uses, process 1 apart."""
    home, limits = Home(folder / "home"), {"wall_seconds": 600, "idle_seconds": 600}
    job = folder / "sleeping.json"
    (folder / "sleeping.py").write_text(SLEEPING_CODE)
    document = {"apiVersion": "executor/v1", "kind": "script", "outputs": [{"name": "o"}], "limits": limits}
    job.write_text(json.dumps(document | {"code": {"path": "sleeping.py"}}))
    command = [sys.executable, "-I", "-m", "executor", "run", str(job), "--out", str(folder / "none"), "--events", "-"]
    with subprocess.Popen([*command, *way.split()], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while b'"sleeping"' not in process.stdout.readline():
            pass
        engine = DockerEngine()
        (owned,) = [c for c in engine.owned(home_label(home)) if is_of(c, home, process.pid)]
        files = find_usage_files(engine.state(owned.container_id).pid, container=owned.container_id)
        assert files is not None, "the cgroup cannot be seen from here"
        before = read_cpu_seconds(files), read_process_1_seconds(files)
        time.sleep(SLEEPING_SECONDS)
        after = read_cpu_seconds(files), read_process_1_seconds(files)
        process.terminate()
    rates = [(b - a) * 1000 / SLEEPING_SECONDS for a, b in zip(before, after, strict=True) if a is not None and b]
    print(f"a job that sleeps, {way.strip('-') or 'warm'}: {rates[0]:.3f} ms of CPU a second, process 1 {rates[1]:.3f}")


def is_of(container: OwnedContainer, home: Home, pid: int) -> bool:
    """Whether a container serves the run of a process, also where the pool started it."""
    owner = parse_owner((home.runs / container.labels[LABEL_RUN] / "owner").read_text())
    return owner is not None and owner.pid == pid


def sleeping_jobs() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.environ["EXECUTOR_HOME"] = f"{name}/home"
        sleeping(Path(name), "--cold")
        executor = [sys.executable, "-I", "-m", "executor", "pool"]
        subprocess.run([*executor, "start", f"{name}/sleeping.json"], check=True, stdout=subprocess.DEVNULL)
        try:
            sleeping(Path(name), "")
        finally:
            subprocess.run([*executor, "stop"], check=True, stdout=subprocess.DEVNULL)


def measured(command: list[str]) -> tuple[float, float]:
    """Return CPU seconds and wall seconds of a command, its children included."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - began


def whole_runs() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["EXECUTOR_HOME"] = str(folder / "home")
        job = write_job(folder)
        image_id = prepare(job, home=Home(folder / "home")).plan.job.image_id
        executor = [sys.executable, "-I", "-m", "executor"]
        subprocess.run([*executor, "pool", "start", str(job), "--size", "4"], check=True, stdout=subprocess.DEVNULL)
        docker = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "/usr/bin/python3.11", image_id]
        ways: dict[str, Callable[[int], list[str]]] = {
            "executor run, warm": lambda n: [*executor, "run", str(job), "--out", str(folder / f"warm-{n}")],
            "executor run, cold": lambda n: [*executor, "run", str(job), "--out", str(folder / f"cold-{n}"), "--cold"],
            "docker run": lambda _: [*docker, "-I", "-c", PLAIN],
        }
        seen: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        try:
            for number in range(WHOLE_RUNS):
                for way, command in ways.items():
                    while (status := ask(Home(folder / "home"), "status", seconds=10)) and not all(
                        kind["ready"] == kind["size"] for kind in status["classes"]
                    ):
                        time.sleep(0.2)
                    seen[way].append(measured(command(number)))
        finally:
            subprocess.run([*executor, "pool", "stop"], check=True, stdout=subprocess.DEVNULL)
        print(f"whole process, from spawn to exit, release signed and verified; medians of {WHOLE_RUNS}: seconds")
        for way, pairs in seen.items():
            cpu, wall = (quantile([pair[part] for pair in pairs], 0.5) for part in (0, 1))
            print(f"  {way:20} CPU {cpu:6.3f}  wall {wall:6.3f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    else:
        dispatches(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
        whole_runs()
        sleeping_jobs()
