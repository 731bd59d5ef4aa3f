"""Mutates archives of torch and numpy, and compares what the inventory's reader, zipfile and torch make of them."""

import io
import json
import random
import zipfile

import numpy
import torch
from mutations import mutate
from worker.inventory.zip_layout import read_members
from worker.job import current

from tools.script_model import normalise

job = current()


def saved(save) -> bytes:
    out = io.BytesIO()
    save(out)
    return out.getvalue()


def by_torch(data: bytes) -> dict[str, bytes]:
    """Read with torch's own reader, which leaves the top folder out of the names."""
    reader = torch._C.PyTorchFileReader(io.BytesIO(data))
    return {name: reader.get_record(name) for name in reader.get_all_records()}


def by_zipfile(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


model = torch.jit.trace(torch.nn.Linear(3, 2), torch.ones(1, 3))
vectors = {"x": numpy.arange(12.0), "y": numpy.ones((2, 3), numpy.int64)}
BASES = {
    "torchscript": (normalise(saved(lambda out: torch.jit.save(model, out))), False),
    "checkpoint": (normalise(saved(lambda out: torch.save({"w": torch.arange(6.0)}, out))), False),
    "npz": (saved(lambda out: numpy.savez(out, **vectors)), True),
    "npz, compressed": (saved(lambda out: numpy.savez_compressed(out, **vectors)), True),
}
dice = random.Random(job.seed)
report = {"tried": 0, "accepted": dict.fromkeys(BASES, 0), "whole": dict.fromkeys(BASES, False), "disagreements": []}
for number in range(int(job.params["count"]) + len(BASES)):
    name = list(BASES)[number % len(BASES)]
    plain, deflated = BASES[name]
    data = plain if number < len(BASES) else mutate(dice, plain)
    report["tried"] += 1
    try:
        found = read_members(data, unpacked_bytes_max=1 << 20, deflated=deflated)
    except ValueError:
        continue
    members = {n: bytes(member.head) for n, member in found.items()}
    report["accepted"][name] += 1
    report["whole"][name] = report["whole"][name] or data == plain
    for reader in (by_zipfile, *([] if deflated else [by_torch])):
        try:
            others = reader(data)
        except Exception as err:
            others = {"error": f"{type(err).__name__}: {err}"[:200].encode()}
        mine = members if reader is by_zipfile else {n.partition("/")[2]: c for n, c in members.items()}
        if others != mine or list(others) != list(mine):
            what = others.get("error", b"other members or bytes").decode()
            report["disagreements"].append([name, reader.__name__, what, data.hex()[:6000]])
job.output("report.json", json.dumps(report))
