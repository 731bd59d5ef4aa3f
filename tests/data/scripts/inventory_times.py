"""Makes an artifact of about 200 MB in each format, and takes the CPU time of its inventory and of sha256 over it."""

import hashlib
import io
import json
import mmap
import statistics
import time
from pathlib import Path

import numpy
import pyarrow
import torch
from onnx import TensorProto, helper, numpy_helper
from pyarrow import ipc, parquet
from worker.job import current
from worker.procedures.inventory import look_at

from tools import export_to_pt2
from tools.script_model import normalise

NUMBERS = 50_000_000
job, path, times = current(), Path("/tmp/artifact"), {}
weights = numpy.random.default_rng(job.seed).standard_normal(NUMBERS, dtype=numpy.float32)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.from_numpy(weights))

    def forward(self, x):
        return x + self.w


def written(write):
    out = io.BytesIO()
    write(out)
    return out.getvalue()


def as_onnx():
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "main", [value[0]], [value[1]], [numpy_helper.from_array(weights, "w")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return made.SerializeToString(deterministic=True)


def as_torchscript():
    return normalise(written(lambda out: torch.jit.save(torch.jit.trace(Model(), torch.zeros(1)), out)))


def as_pt2():
    program = torch.export.export(Model(), (torch.zeros(1),))
    return export_to_pt2.normalise(written(lambda out: torch.export.save(program, out)))


def as_safetensors():
    entry = {"dtype": "F32", "shape": [NUMBERS], "data_offsets": [0, 4 * NUMBERS]}
    header = json.dumps({"w": entry}).encode()
    return len(header).to_bytes(8, "little") + header + weights.tobytes()


def as_arrow(out):
    table = pyarrow.table({"w": weights})
    with ipc.new_file(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=1 << 20)


MAKERS = {
    "onnx": as_onnx,
    "torchscript": as_torchscript,
    "pt2": as_pt2,
    "checkpoint": lambda: normalise(written(lambda out: torch.save({"w": torch.from_numpy(weights)}, out))),
    "pickle": lambda: b"\x80\x04\x8e" + (4 * NUMBERS).to_bytes(8, "little") + weights.tobytes() + b".",
    "safetensors": as_safetensors,
    "npy": lambda: written(lambda out: numpy.save(out, weights)),
    "npz": lambda: written(lambda out: numpy.savez(out, w=weights)),
    "npz, compressed": lambda: written(lambda out: numpy.savez_compressed(out, w=weights)),
    "arrow": lambda: written(as_arrow),
    "parquet": lambda: written(
        lambda out: parquet.write_table(pyarrow.table({"w": weights}), out, write_statistics=False)
    ),
    "json (refused: too long)": lambda: b"[" + b"1.25," * 40_000_000 + b"1]",
    "text (refused: too long)": lambda: b"words in a row\n" * 13_333_333,
}


def measured(call):
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        began = time.process_time()
        with memoryview(data) as view:
            found = call(view)
        return time.process_time() - began, found


for name, make in MAKERS.items():
    path.write_bytes(make())
    pairs, found = [], None
    for _ in range(int(job.params["runs"])):
        seconds, found = measured(look_at)
        pairs.append((seconds, measured(lambda view: hashlib.sha256(view).hexdigest())[0]))
    inventory, sha256 = (statistics.median(column) for column in zip(*pairs, strict=True))
    times[name] = {
        "bytes": path.stat().st_size,
        "format": found["format"],
        "findings": [f["id"] for f in found["findings"]],
        "inventory": inventory,
        "sha256": sha256,
    }
    job.progress(formats=float(len(times)))
job.output("times.json", json.dumps(times))
