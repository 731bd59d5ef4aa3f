"""ONNX models that hide an operator, mean two things, or bring bytes from elsewhere."""

import tempfile
from pathlib import Path

import onnx
import onnx.inliner
import onnxruntime
from onnx import TensorProto, helper
from sample import Sample, mark_where


def value(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])


def model(*nodes, opsets=(("", 20),), **change):
    graph = helper.make_graph(nodes or [helper.make_node("Relu", ["x"], ["y"])], "main", [value("x")], [value("y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*o) for o in opsets], ir_version=10, **change)


def changed(change):
    made = model()
    change(made)
    return made


def branch(*nodes):
    return helper.make_graph(nodes, "branch", [], [value("y")])


def in_branch(node):
    plain = branch(helper.make_node("Constant", [], ["y"], value_float=1.0))
    return helper.make_node("If", ["x"], ["y"], then_branch=branch(node), else_branch=plain)


def nested(depth):
    node = helper.make_node("Hidden", [], ["y"], domain="evil")
    for _ in range(depth):
        node = in_branch(node)
    return model(node, opsets=(("", 20), ("evil", 1)))


def tensor(**location):
    made = helper.make_tensor("w", TensorProto.FLOAT, [2], [0.0, 0.0])
    made.ClearField("float_data")
    made.data_location = TensorProto.EXTERNAL
    for key, text in location.items():
        made.external_data.add(key=key, value=text)
    return made


def external(location):
    def change(made):
        made.graph.initializer.append(tensor(location=location))

    return change


def override(made):
    body = [helper.make_node("Neg", ["a"], ["b"])]
    made.functions.append(helper.make_function("", "Relu", ["a"], ["b"], body, [helper.make_opsetid("", 20)]))


def doubling(made):
    """Functions of which each calls the one before it twice: forty of them are a million million nodes."""
    for level in range(40):
        inner = "Neg" if level == 0 else f"F{level - 1}"
        domain = "" if level == 0 else "f"
        nodes = [
            helper.make_node(inner, ["a"], ["c"], domain=domain),
            helper.make_node(inner, ["c"], ["b"], domain=domain),
        ]
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
        made.functions.append(helper.make_function("f", f"F{level}", ["a"], ["b"], nodes, opsets))
    made.opset_import.add(domain="f", version=1)
    made.graph.node.append(helper.make_node("F39", ["y"], ["z"], domain="f"))


def runtimes_differ(path):
    """Run a model, and run it after its functions were put in place."""

    def run(made):
        session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        import numpy

        return session.run(None, {"x": numpy.array([1.0, 2.0], numpy.float32)})[0].tolist()

    made = onnx.load(path)
    mark_where(run(made) != run(onnx.inliner.inline_local_functions(made)))


def reads_elsewhere(path):
    """Load a model beside a file that it names: bytes of that file are then in it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "secret").write_bytes(b"\x00\x00\x80?" * 2)
        (Path(folder) / "model.onnx").write_bytes(path.read_bytes())
        made = onnx.load(Path(folder) / "model.onnx")
    mark_where(made.graph.initializer[0].raw_data == b"\x00\x00\x80?" * 2)


def constant(made):
    made.graph.node.append(helper.make_node("Constant", [], ["z"], value=tensor(location="secret")))


def training(made):
    made.training_info.add().algorithm.CopyFrom(branch(helper.make_node("Hidden", [], ["y"], domain="evil")))


def sparse(made):
    made.graph.sparse_initializer.add().values.CopyFrom(tensor(location="secret"))


EVIL = (("", 20), ("evil", 1))


def two_values(made):
    both = made.graph.initializer.add()
    both.CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [2], [0.0, 0.0]))
    both.raw_data = bytes(8)


def two_kinds(made):
    node = helper.make_node("LeakyRelu", ["x"], ["z"], alpha=1.0)
    node.attribute[0].i = 7
    made.graph.node.append(node)


def one_name(made):
    for number in (0.0, 1.0):
        made.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [1], [number]))


def samples():
    loop = helper.make_graph([], "body", [], [])
    models = {
        "an operator of another domain": model(helper.make_node("Run", ["x"], ["y"], domain="evil"), opsets=EVIL),
        "one that no domain is imported for": model(helper.make_node("Run", ["x"], ["y"], domain="evil")),
        "in a branch": nested(1),
        "eight branches deep": nested(8),
        "thirty branches deep": nested(30),
        "an opaque blob": model(
            helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", ep_cache_context="/etc/passwd"),
            opsets=(("", 20), ("com.microsoft", 1)),
        ),
        "a loop without end": model(helper.make_node("Loop", ["x"], ["y"], body=loop)),
        "training": changed(training),
        "a function nobody calls": changed(
            lambda m: m.functions.append(
                helper.make_function("evil", "F", [], [], [helper.make_node("Run", [], [], domain="evil")], [])
            )
        ),
        "forty functions that double": changed(doubling),
        "opset 9999": model(opsets=(("", 9999),)),
        "an import twice": model(opsets=(("", 13), ("", 20))),
        "the standard domain by its other name": model(opsets=(("ai.onnx", 20),)),
        "a domain that nothing uses": model(opsets=EVIL),
        "no node": changed(lambda m: m.graph.ClearField("node")),
        "IR 99": changed(lambda m: setattr(m, "ir_version", 99)),
        "ten megabytes of metadata": changed(lambda m: m.metadata_props.add(key="a", value="b" * (10 << 20))),
        "documentation": changed(lambda m: setattr(m.graph.node[0], "doc_string", "/home")),
        "a tensor with two values": changed(two_values),
        "an attribute of two kinds": changed(two_kinds),
        "two tensors of one name": changed(one_name),
        "a note on a value": changed(lambda m: setattr(m.graph.input[0].type, "denotation", "secret")),
        "a note on quantisation": changed(lambda m: m.graph.quantization_annotation.add(tensor_name="secret")),
        "a long word on who made it": changed(lambda m: setattr(m, "producer_version", "x" * 200)),
        "random output": model(helper.make_node("RandomNormalLike", ["x"], ["y"])),
        "external data upwards": changed(external("../../etc/passwd")),
        "external data by an absolute path": changed(external("/etc/passwd")),
        "external data in a constant": changed(constant),
        "external data in a sparse tensor": changed(sparse),
    }
    for name, made in models.items():
        yield Sample("onnx", name, made.SerializeToString(deterministic=True), None, ".onnx")
    differing = changed(override).SerializeToString(deterministic=True)
    yield Sample("onnx", "a function that takes a standard operator's place", differing, runtimes_differ, ".onnx")
    elsewhere = changed(external("secret")).SerializeToString(deterministic=True)
    yield Sample("onnx", "external data beside it", elsewhere, reads_elsewhere, ".onnx")
    good = model().SerializeToString(deterministic=True)
    for name, data in (
        ("an unknown field", good + b"\xfa\x3f\x01x"),
        ("a field twice", good + b"\x08\x0a"),
        ("fields in another order", good[2:] + good[:2]),
        ("two formats at once", good[:4] + b"ORTM" + good[8:]),
        ("cut off", good[:-3]),
        ("a graph twice", good + good[good.index(b"\x3a") :]),
    ):
        yield Sample("onnx", name, data, None, ".onnx")
