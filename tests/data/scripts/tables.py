"""Gives the train procedure tables that it must refuse, and two that it must take; reports what it said of each."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
from worker.job import current
from worker.procedures.train import _check, _load_tables

FOLDER = Path("/tmp")


def nodes(**change):
    columns = {
        "id": pa.array([10, 20, 30], pa.int32()),
        "features": pa.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], pa.list_(pa.float64(), 2)),
        "label": pa.array([0, 1, 0]),
        "split": pa.array(["train", "test", "none"]),
    }
    return pa.table({k: v for k, v in (columns | change).items() if v is not None})


def edges(**change):
    return pa.table({"source": pa.array([10, 20]), "target": pa.array([20, 10])} | change)


def ragged(values):
    return pa.array(values, pa.list_(pa.float32()))


CASES = {
    "good": (nodes(), edges()),
    "no column": (nodes(label=None), edges()),
    "null label": (nodes(label=pa.array([0, None, 0])), edges()),
    "text ids": (nodes(id=pa.array(["a", "b", "c"])), edges()),
    "same id twice": (nodes(id=pa.array([10, 10, 30])), edges()),
    "negative label": (nodes(label=pa.array([0, -1, 0])), edges()),
    "huge label": (nodes(label=pa.array([0, 10**9, 0])), edges()),
    "ragged features": (nodes(features=ragged([[1.0], [1.0, 2.0, 3.0], [1.0, 2.0]])), edges()),
    "null feature": (nodes(features=pa.array([[1.0, None]] * 3, pa.list_(pa.float32(), 2))), edges()),
    "infinite feature": (nodes(features=pa.array([[1.0, float("inf")]] * 3, pa.list_(pa.float32(), 2))), edges()),
    "no train split": (nodes(split=pa.array(["none", "test", "none"])), edges()),
    "no nodes": (nodes().slice(0, 0), edges()),
    "unknown node": (nodes(), edges(target=pa.array([20, 99]))),
}

said = {}
for name, (left, right) in CASES.items():
    pyarrow.parquet.write_table(left, FOLDER / "n")
    pyarrow.parquet.write_table(right, FOLDER / "e")
    try:
        _check(_load_tables(FOLDER / "n", FOLDER / "e"))
        said[name] = "taken"
    except ValueError as err:
        said[name] = str(err)

pyarrow.feather.write_feather(nodes(), FOLDER / "n", compression="uncompressed")
with pa.OSFile(str(FOLDER / "e"), "wb") as sink, pa.ipc.new_stream(sink, edges().schema) as writer:
    writer.write_table(edges())
graph = _load_tables(FOLDER / "n", FOLDER / "e")
said["arrow"] = graph.edge_index.tolist()
current().output("said.json", json.dumps(said))
