"""Runs the image's own ONNX inventory on files that hide something; reports operators and findings of each."""

import json

import onnx
from onnx import TensorProto, helper
from worker.inventory import onnx_model
from worker.job import current

from tools.export_to_onnx import strip


def value(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])


def model(*nodes, opsets=(("", 20),), **change):
    graph = helper.make_graph(nodes or [helper.make_node("Relu", ["x"], ["y"])], "main", [value("x")], [value("y")])
    imports = [helper.make_opsetid(*o) for o in opsets]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, **change)


def changed(change):
    made = model()
    change(made)
    return made


def nested(depth):
    graph = helper.make_graph([helper.make_node("Hidden", [], ["y"])], "leaf", [], [value("y")])
    plain = helper.make_graph([helper.make_node("Constant", [], ["y"], value_float=1.0)], "plain", [], [value("y")])
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=plain)
        graph = helper.make_graph([node], "level", [], [value("y")])
    return model(*graph.node)


def external(made):
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [0.0])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    made.graph.initializer.append(tensor)


def in_constant(made):
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [0.0])
    tensor.external_data.add(key="location", value="x")
    made.graph.node.append(helper.make_node("Constant", [], ["z"], value=tensor))


def function(made):
    body = [helper.make_node("Neg", ["a"], ["b"])]
    made.functions.append(helper.make_function("", "Relu", ["a"], ["b"], body, [helper.make_opsetid("", 20)]))


CASES = {
    "good": model(),
    "subgraph": nested(1),
    "deep": nested(8),
    "too deep": nested(17),
    "function": changed(function),
    "external": changed(external),
    "external in constant": changed(in_constant),
    "training": changed(lambda m: m.training_info.add()),
    "metadata": changed(lambda m: m.metadata_props.add(key="a", value="b")),
    "node metadata": changed(lambda m: m.graph.node[0].metadata_props.add(key="a", value="b")),
    "documentation": changed(lambda m: setattr(m.graph.node[0], "doc_string", "path")),
    "two imports": model(opsets=(("", 13), ("", 20))),
    "no node": changed(lambda m: m.graph.ClearField("node")),
}
files = {name: made.SerializeToString(deterministic=True) for name, made in CASES.items()}
good = files["good"]
files["unknown field"] = good + b"\xfa\x3f\x01x"
files["repeated field"] = good + b"\x08\x0a"
files["other order"] = good[2:] + good[:2]
files["polyglot"] = good[:4] + b"ORTM" + good[8:]
files["cut off"] = good[:-3]
files["empty"] = b""

seen = {}
for name, data in files.items():
    wire = onnx_model.inventory(data).to_wire()
    operators = [f"{o['namespace']}::{o['name']}" for o in wire["operators"]]
    seen[name] = [operators, sorted({f["id"] for f in wire["findings"]})]
seen["stripped"] = onnx_model.inventory(strip(files["documentation"])).to_wire()["findings"]
onnx.checker.check_model(onnx.ModelProto.FromString(strip(good)))
current().output("seen.json", json.dumps(seen))
