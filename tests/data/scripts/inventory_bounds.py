"""Has the inventory of an artifact go up to each of its bounds, and beyond; reports what becomes of it."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

from worker.job import current
from worker.procedures import inventory

path = Path("/tmp/artifact")
path.write_bytes(b"words")
bounds = inventory.Bounds(cpu_seconds=2, wall_seconds=15)
inventory.MEMORY_BYTES_MAX, inventory.REPORT_BYTES_MAX = 1 << 30, 10_000
PLAIN = {"format": "text", "facts": {}, "operators": [], "findings": []}


def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def held(size):
    assert len(bytearray(size)) == size


def of_length(size):
    return PLAIN | {"facts": {"a": "x" * (size - len(json.dumps(PLAIN | {"facts": {"a": ""}})))}}


WAYS = {
    "cpu, within": lambda _: spin(0.3),
    "cpu, beyond": lambda _: spin(60),
    "wall, within": lambda _: time.sleep(0.5),
    "wall, beyond": lambda _: time.sleep(120),
    "memory, within": lambda _: held(256 << 20),
    "memory, beyond": lambda _: held(1100 << 20),
    "report, within": lambda _: of_length(10_000),
    "report, beyond": lambda _: of_length(10_001),
}
seen = {}
for name, way in WAYS.items():
    inventory.look_at = lambda data, way=way: way(data) or PLAIN
    report = inventory.in_bounds(path, bounds)
    seen[name] = [f"{finding['id']}: {finding['detail']}" for finding in report["findings"]]
# All reports travel in one message: those that there is no more room for deny their artifacts.
inventory.look_at, inventory.REPORT_BYTES_MAX = (lambda _: of_length(100_000)), 200_000
many = SimpleNamespace(inputs={f"a{number}": path for number in range(12)}, params={"plugins": {}})
reports = inventory.run(many)["artifacts"]
seen["together"] = [bool(report["findings"]) for report in reports.values()]
current().output("seen.json", json.dumps(seen))
