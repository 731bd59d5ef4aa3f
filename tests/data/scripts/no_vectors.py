"""Sends an honest ONNX without anything to replay it by."""

import onnx
from onnx import TensorProto, helper
from worker.job import current

x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy")
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "main", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
onnx.checker.check_model(model)
current().output("model.onnx", model.SerializeToString(), role="model")
