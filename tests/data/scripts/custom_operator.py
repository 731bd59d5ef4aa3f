"""Exports models of one custom operator, which doubles its input, in the formats whose plugin the job has."""

import io

import numpy
import torch
from onnx import TensorProto, helper
from worker.job import current

from tools import export_to_pt2, script_model
from tools.export_to_onnx import strip

job = current()


class Twice(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 4)

    def forward(self, x):
        return torch.ops.graph_example.twice(self.layer(x))


def as_onnx():
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Twice", ["a"], ["y"], domain="graph.example"),
    ]
    graph = helper.make_graph(nodes, "main", [value[0]], [value[1]])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("graph.example", 1)]
    return strip(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


x = numpy.random.default_rng(job.seed).standard_normal((5, 3)).astype(numpy.float32)
runtime = job.params["runtime"]
if runtime == "onnxruntime":
    job.output("model.onnx", as_onnx())
    expected = 2 * numpy.maximum(x, 0)
else:
    torch.manual_seed(job.seed)
    if "library" in job.inputs:
        torch.ops.load_library(str(job.inputs["library"]))
    else:  # the same operator without the library: what the model calls is equal
        torch.library.define("graph_example::twice", "(Tensor x) -> Tensor")
        torch.library.impl("graph_example::twice", "CPU", lambda x: 2 * x)
    torch.library.register_fake("graph_example::twice", lambda x: torch.empty_like(x))
    model, sample = Twice().eval(), torch.from_numpy(x)
    with torch.no_grad():
        expected = model(sample).numpy()
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.trace(model, sample), buffer)
        job.output("model.pt", script_model.normalise(buffer.getvalue()))
        buffer = io.BytesIO()
        torch.export.save(torch.export.export(model, (sample,)), buffer)
        job.output("model.pt2", export_to_pt2.normalise(buffer.getvalue()))
buffer = io.BytesIO()
numpy.savez(buffer, **{"a.x": x, "a.expected": expected})
job.output("vectors.npz", buffer.getvalue())
