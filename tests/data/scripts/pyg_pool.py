"""Exports a network that classifies whole graphs, with test vectors of other numbers of graphs than the sample's."""

import io

import numpy
import torch
from torch import nn
from torch_geometric.nn import GINConv, global_add_pool, global_max_pool, global_mean_pool
from worker.job import current

from tools.export_to_onnx import export_to_onnx

POOLS = {"mean": global_mean_pool, "max": global_max_pool, "add": global_add_pool}
job = current()


class Net(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.conv = GINConv(nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16)))
        self.pool = POOLS[pool]
        self.head = nn.Linear(16, 4)

    def forward(self, x, edge_index, batch):
        return self.head(self.pool(torch.relu(self.conv(x, edge_index)), batch))


def graphs(nodes, count):
    edges = torch.randint(0, nodes, (2, 4 * nodes))
    return torch.randn(nodes, 8), edges, torch.arange(nodes) * count // nodes


torch.manual_seed(job.seed)
model = Net(job.params["pool"]).eval()
job.output("model.onnx", export_to_onnx(model, *graphs(40, 4)))
arrays = {}
for nodes, count in ((40, 4), (7, 2), (90, 30), (1, 1)):
    inputs = graphs(nodes, count)
    with torch.no_grad():
        arrays[f"{count}.expected"] = model(*inputs).numpy()
    arrays |= {f"{count}.{name}": v.numpy() for name, v in zip(("x", "edge_index", "batch"), inputs, strict=True)}
buffer = io.BytesIO()
numpy.savez(buffer, **arrays)
job.output("vectors.npz", buffer.getvalue())
