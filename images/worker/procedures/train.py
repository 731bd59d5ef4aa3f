"""Kind `train`: fit a two-layer graph convolutional network to a node and an edge table, and export it.

The network and its defaults are those of Kipf and Welling 2017 (arXiv 1609.02907, section 5.2): 16 hidden units,
dropout 0.5, Adam with learning rate 0.01, weight decay 5e-4 on the first layer only, 200 epochs.

Tables: nodes with an `id`, a fixed-size list of float `features`, an integer `label` and a `split` (`train`, `val`,
`test`, anything else is unlabelled); edges with `source` and `target` ids, both directions present. Parquet or Arrow
IPC. Without inputs, Zachary's karate club, which torch_geometric carries.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import GCNConv
from worker.job import Job

from tools.check_export import graphs_of_other_sizes
from tools.export_model import export_model

_CLASSES_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A node classification task.

    Attributes:
        x: float32, shape [N, F].
        edge_index: int64, shape [2, E], positions in `x`, not ids.
        y: int64, shape [N].
        masks: bool, shape [N], for `train`, `val` and `test`.
    """

    x: Tensor
    edge_index: Tensor
    y: Tensor
    masks: dict[str, Tensor]


class GCN(torch.nn.Module):
    """Two graph convolutions over row-normalised features; returns logits of shape [N, classes]."""

    def __init__(self, features: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = GCNConv(features, hidden)
        self.conv2 = GCNConv(hidden, classes)
        self.dropout = dropout

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Args: `x` float32 [N, F]; `edge_index` int64 [2, E], values 0..N-1."""
        x = x / x.sum(dim=-1, keepdim=True).clamp(min=1.0)
        x = torch.nn.functional.dropout(x, self.dropout, self.training)
        x = self.conv1(x, edge_index).relu()
        x = torch.nn.functional.dropout(x, self.dropout, self.training)
        logits: Tensor = self.conv2(x, edge_index)
        return logits


def run(job: Job) -> dict[str, Any]:
    """Train, export to ONNX and TorchScript, and send both with their test vectors."""
    torch.manual_seed(job.seed)
    torch.set_num_threads(job.threads)
    graph = _karate_club() if not job.inputs else _load_tables(job.inputs["nodes"], job.inputs["edges"])
    _check(graph)
    model = _fit(job, graph)
    job.metrics(**_accuracies(model, graph))
    exported = export_model(model, graphs_of_other_sizes(graph.x, graph.edge_index, seed=job.seed))
    for name, role, data in exported.files():
        job.output(name, data, role=role)
    return {"metrics": job.claims}


def _check(graph: Graph) -> None:
    """Refuse a task that would train to nothing, or fail far from the cause."""
    if not torch.isfinite(graph.x).all():
        raise ValueError("a feature is not finite")
    if not 0 <= int(graph.y.min()) <= int(graph.y.max()) < _CLASSES_MAX:
        raise ValueError(f"labels must count from 0 and stay below {_CLASSES_MAX}")
    for name in ("train", "test"):
        if not graph.masks[name].any():
            raise ValueError(f"no node has the split {name!r}")


def _fit(job: Job, graph: Graph) -> GCN:
    params = job.params
    classes = int(graph.y.max()) + 1
    model = GCN(graph.x.shape[1], params["hidden"], classes, params["dropout"])
    optimizer = torch.optim.Adam(
        [
            {"params": model.conv1.parameters(), "weight_decay": params["weight_decay"]},
            {"params": model.conv2.parameters(), "weight_decay": 0.0},
        ],
        lr=params["learning_rate"],
    )
    train = graph.masks["train"]
    for epoch in range(1, params["epochs"] + 1):
        model.train()
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(graph.x, graph.edge_index)[train], graph.y[train])
        if not torch.isfinite(loss):
            raise ValueError(f"the loss is not finite at epoch {epoch}: lower the learning rate or check the features")
        loss.backward()
        optimizer.step()
        if epoch % params["report_every"] == 0 or epoch == params["epochs"]:
            job.progress(epoch=epoch, epochs=params["epochs"], loss=loss.item(), **_accuracies(model, graph))
    model.eval()
    return model


@torch.no_grad()
def _accuracies(model: GCN, graph: Graph) -> dict[str, float]:
    model.eval()
    correct = model(graph.x, graph.edge_index).argmax(dim=-1) == graph.y
    return {f"{name}_accuracy": correct[mask].float().mean().item() for name, mask in graph.masks.items() if mask.any()}


def _karate_club() -> Graph:
    from torch_geometric.datasets import KarateClub

    data = KarateClub()[0]
    masks = {"train": data.train_mask, "test": ~data.train_mask}
    return Graph(x=data.x, edge_index=data.edge_index, y=data.y, masks=masks)


def _load_tables(nodes_path: Path, edges_path: Path) -> Graph:
    nodes = _read_table(nodes_path, ("id", "features", "label", "split"))
    edges = _read_table(edges_path, ("source", "target"))
    ids = _integers(nodes, "id")
    if len(ids) == 0 or len(ids.unique()) != len(ids):
        raise ValueError(f"table {nodes_path.name} needs nodes, each with an id of its own")
    split = nodes["split"].to_pylist()
    return Graph(
        x=_features(nodes),
        edge_index=_positions(ids, edges),
        y=_integers(nodes, "label"),
        masks={name: torch.tensor([s == name for s in split]) for name in ("train", "val", "test")},
    )


def _read_table(path: Path, columns: tuple[str, ...]) -> Any:
    """Read Parquet or Arrow IPC (file or stream), told apart by content."""
    import pyarrow
    import pyarrow.parquet

    with path.open("rb") as file:
        magic = file.read(6)
    if magic[:4] == b"PAR1":
        table = pyarrow.parquet.read_table(path)
    else:
        source = pyarrow.memory_map(str(path))
        opened = pyarrow.ipc.open_file(source) if magic == b"ARROW1" else pyarrow.ipc.open_stream(source)
        table = opened.read_all()
    missing = [c for c in columns if c not in table.column_names]
    if missing:
        raise ValueError(f"table {path.name} has no column {missing[0]!r}; it has {table.column_names}")
    table = table.select(list(columns))
    table.validate(full=True)
    for column in columns:
        if table[column].null_count:
            raise ValueError(f"column {column!r} of table {path.name} has empty cells")
    return table


def _integers(table: Any, column: str) -> Tensor:
    """Return an integer column as int64, shape [N]; text and fractions are refused."""
    import pyarrow

    if not pyarrow.types.is_integer(table[column].type):
        raise ValueError(f"column {column!r} is {table[column].type}, expected an integer type")
    return torch.from_numpy(table[column].cast(pyarrow.int64()).to_numpy().copy())


def _features(nodes: Any) -> Tensor:
    """Return the features as float32, shape [N, F]."""
    import pyarrow

    column = nodes["features"].combine_chunks()
    kind = column.type
    if not pyarrow.types.is_fixed_size_list(kind) or not pyarrow.types.is_floating(kind.value_type):
        raise ValueError(f"column 'features' is {kind}, expected a fixed-size list of floats")
    flat = column.flatten()
    if flat.null_count:
        raise ValueError("column 'features' has empty values")
    return torch.from_numpy(flat.cast(pyarrow.float32()).to_numpy().copy()).reshape(len(nodes), kind.list_size)


def _positions(ids: Tensor, edges: Any) -> Tensor:
    """Map node ids to row numbers; an edge to an unknown node is refused."""
    order = torch.argsort(ids)
    ordered = ids[order]
    ends = torch.stack([_integers(edges, "source"), _integers(edges, "target")])
    found = torch.searchsorted(ordered, ends).clamp(max=len(ids) - 1)
    if not torch.equal(ordered[found], ends):
        raise ValueError("an edge names a node that the node table does not have")
    return order[found]
