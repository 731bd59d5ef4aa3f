"""Exports an ONNX whose nested subgraph holds a node of a custom domain."""

from onnx import TensorProto, helper
from worker.job import current

y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
inner = helper.make_node("Run", [], ["y"], domain="evil.ops", name="payload")
plain = helper.make_node("Constant", [], ["y"], value_float=1.0)
branches = {
    "then_branch": helper.make_graph([inner], "then", [], [y]),
    "else_branch": helper.make_graph([plain], "else", [], [y]),
}
cond = helper.make_tensor_value_info("cond", TensorProto.BOOL, [])
graph = helper.make_graph([helper.make_node("If", ["cond"], ["y"], **branches)], "main", [cond], [y])
opsets = [helper.make_opsetid("", 20), helper.make_opsetid("evil.ops", 1)]
model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
current().output("model.onnx", model.SerializeToString(), role="model")
