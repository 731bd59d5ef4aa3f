"""Exports a two-layer graph network of a named kind to every format, with test vectors on graphs of other sizes."""

import torch
from torch import nn
from torch_geometric.nn import GATConv, GATv2Conv, GCNConv, GINConv, SAGEConv, TransformerConv
from worker.job import current

from tools.check_export import graphs_of_other_sizes, make_test_vectors
from tools.export_to_onnx import export_to_onnx
from tools.export_to_pt2 import export_to_pt2
from tools.script_model import script_model

job = current()


def perceptron(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inside, outside), nn.BatchNorm1d(outside), nn.ReLU(), nn.Linear(outside, outside))


KINDS = {
    "GCN": GCNConv,
    "GraphSAGE mean": lambda i, o: SAGEConv(i, o, aggr="mean"),
    "GraphSAGE max": lambda i, o: SAGEConv(i, o, aggr="max"),
    "GAT": lambda i, o: GATConv(i, o, heads=2, concat=False),
    "GATv2": lambda i, o: GATv2Conv(i, o, heads=2, concat=False),
    "GIN": lambda i, o: GINConv(perceptron(i, o)),
    "TransformerConv": lambda i, o: TransformerConv(i, o, heads=2, concat=False),
}


class Net(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first = KINDS[kind](8, 16)
        self.second = KINDS[kind](16, 4)

    def forward(self, x, edge_index):
        return self.second(torch.relu(self.first(x, edge_index)), edge_index)


torch.manual_seed(job.seed)
x, edge_index = torch.randn(40, 8), torch.randint(0, 40, (2, 160))
model = Net(job.params["model"]).eval()
job.output("model.onnx", export_to_onnx(model, x, edge_index))
job.output("model.pt", script_model(model, x, edge_index))
job.output("model.pt2", export_to_pt2(model, x, edge_index))
job.output("vectors.npz", make_test_vectors(model, graphs_of_other_sizes(x, edge_index, seed=job.seed)))
