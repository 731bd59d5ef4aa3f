"""The host stays well: hostile jobs many at a time, executors killed at any moment. `make soak` runs the long form."""

import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from executor.doctor.attempts import ATTEMPTS, Attempt
from executor.doctor.battery import judge, plan_attempt, run_attempt
from executor.run.containers import Context
from executor.sandbox.docker import DockerEngine
from executor.sandbox.session import RunResult
from executor.state.home import Home
from tests.integration.conftest import Host, containers, disk_bytes, raw_engine

SEED = 4
TIMES_ALONE_MAX = 20  # as long as the same takes an engine that has nothing else to do, in the same run
GONE_SECONDS = 1.5
GONE_SECONDS_MAX = 60.0  # a job's deadline is ten times that
CAPS_BYTES = 4 * ((8 << 20) + (1 << 20) + (1 << 20))  # outputs and text of four jobs, and their own few small files


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Bystander:
    """A container that has nothing to do with any of it, looked at all the time."""

    def __init__(self) -> None:
        engine, plan = raw_engine(), plan_attempt(ATTEMPTS[0])
        self.container = engine.create_container(plan.job.image_id, entrypoint=["/nonexistent"])["Id"]
        self.alone = quantile([self._inspect(engine) for _ in range(50)], 0.5)
        self.seconds: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        engine = raw_engine()
        while not self._over.wait(0.05):
            self.seconds.append(self._inspect(engine))

    def _inspect(self, engine: Any) -> float:
        began = time.monotonic()
        engine.inspect_container(self.container)
        return time.monotonic() - began

    def __enter__(self) -> "Bystander":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        raw_engine().remove_container(self.container, v=True)


class DiskWatch:
    """The most that a folder held, looked at all the time."""

    def __init__(self, folder: Path) -> None:
        self.most = 0
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.most = max(self.most, disk_bytes(self._folder))

    def __enter__(self) -> "DiskWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def leavings(home: Path) -> dict[str, list[str]]:
    """What a run could leave behind on the engine and on the host."""
    return {
        "containers": containers().split(),
        "volumes": sorted(v["Name"] for v in raw_engine().volumes()["Volumes"] or ()),
        "mounts": sorted(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()),
        "run folders and sockets": [str(p) for p in (home / "run").rglob("*")],
    }


@pytest.mark.parametrize("count", [16, pytest.param(100, marks=pytest.mark.soak)])
def test_the_host_stays_well_under_hostile_jobs(home: Path, count: int) -> None:
    chosen = random.Random(SEED).choices(ATTEMPTS, k=count)
    context = Context(home=Home(home), engine=DockerEngine())
    before = leavings(context.home.runs.parent)

    def run(attempt: Attempt) -> tuple[RunResult, str | None]:
        plan = plan_attempt(attempt)
        result, sent = run_attempt(attempt, plan, image_id=plan.job.image_id, context=context)
        return result, judge(attempt, result, sent)

    idler = next(attempt for attempt in ATTEMPTS if attempt.name == "do nothing for longer than allowed")
    alone = run(idler)[0].seconds["remove"]
    with Bystander() as bystander, DiskWatch(home) as disk, ThreadPoolExecutor(4) as workers:
        done = list(workers.map(run, chosen))
    assert [wrong for _, wrong in done if wrong] == []
    killed = [result.seconds["remove"] for result, _ in done if result.outcome.evidence["stop"] is not None]
    every = [result.seconds["remove"] for result, _ in done]
    print(
        f"\n{count} jobs, {len(killed)} killed: kill to reaped and removed p50 {quantile(killed, 0.5):.3f} s,"
        f" p99 {quantile(killed, 0.99):.3f} s; all p99 {quantile(every, 0.99):.3f} s;"
        f" inspect of a bystander p50 {quantile(bystander.seconds, 0.5) * 1000:.1f} ms,"
        f" p99 {quantile(bystander.seconds, 0.99) * 1000:.1f} ms of {len(bystander.seconds)};"
        f" disk at most {disk.most / (1 << 20):.1f} MiB"
    )
    assert quantile(killed, 0.5) <= TIMES_ALONE_MAX * alone
    if count >= 100:  # of sixteen the slowest is chance
        assert quantile(killed, 0.99) <= TIMES_ALONE_MAX * alone
        assert quantile(bystander.seconds, 0.99) <= TIMES_ALONE_MAX * bystander.alone
    assert disk.most <= CAPS_BYTES
    assert leavings(home) == before


@contextmanager
def run_of(host: Host, job: Path, target: Path, key: str) -> Iterator["subprocess.Popen[bytes]"]:
    command = host.command("run", str(job), "--out", str(target), "--idempotency-key", key, "--json")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield process


@pytest.mark.parametrize("count", [6, pytest.param(100, marks=pytest.mark.soak)])
def test_an_executor_killed_at_any_moment_leaves_nothing_and_its_key_gives_one_release(
    host: Host, home: Path, count: int
) -> None:
    dice = random.Random(SEED)
    job = host.script_job("hello", {"name": "greeting.txt"}, limits={"wall_seconds": 600})
    began = time.monotonic()
    assert host.run(job)[0].code == 0
    whole, states, slowest = time.monotonic() - began, [], 0.0
    for number in range(count):
        target = host.folder / f"killed-{number}"
        with run_of(host, job, target, f"key-{number}") as process:
            time.sleep(dice.uniform(0, whole * 1.1))
            process.send_signal(signal.SIGKILL)
        ended = time.monotonic()
        # A job's deadline is its limit; what is left of a run whose executor died goes long before. The engine may
        # still be making what the dead one asked for, so nothing counts as gone that is not so for a while.
        since = 0.0
        while time.monotonic() < ended + GONE_SECONDS_MAX and (not since or time.monotonic() - since < GONE_SECONDS):
            since = (since or time.monotonic()) if gone(host, home) else 0.0
            time.sleep(0.05)
        assert since, "something is left"
        slowest = max(slowest, since - ended)
        states.append(target.exists())
        if target.exists():
            assert host.call("verify", str(target)).code == 0
        again = host.call("run", str(job), "--out", str(target), "--idempotency-key", f"key-{number}", "--json")
        assert again.code == 0, again.stderr
        assert again.json.get("replayed", False) == states[-1]
        assert again.json["release"] == str(target)
        assert host.call("verify", str(target)).code == 0
        ids = {json.loads(p.read_text())["run_id"] for p in (home / "log").glob("*/record.json") if released(p, target)}
        assert ids == {again.json["run_id"]}
    print(
        f"\n{count} killed within {whole:.2f} s, {sum(states)} after their release; gone after {slowest:.1f} s at most"
    )


def gone(host: Host, home: Path) -> bool:
    run = home / "run"
    folders = list(run.iterdir()) if run.exists() else []
    return not folders and containers() == "" and not list(host.folder.glob(".*.partial"))


def released(record: Path, target: Path) -> bool:
    return bool(json.loads(record.read_text())["release"] == str(target))
