"""PT2: what an export holds passes, and every place where loading would run something is a finding."""

import copy
import io
import json
import zipfile
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

pt2: Any = import_module("worker.inventory.pt2")
sniff: Any = import_module("worker.inventory.sniff").sniff

META: dict[str, Any] = {
    "dtype": 7,
    "sizes": [{"as_int": 4}],
    "requires_grad": True,
    "device": {"type": "cpu", "index": None},
    "strides": [{"as_int": 1}],
    "storage_offset": {"as_int": 0},
    "layout": 7,
}
SIZE: dict[str, Any] = {
    "as_expr": {"expr_str": "Add(Symbol('s77', positive=True, integer=True), Integer(1))", "hint": {"as_int": 9}}
}
LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}


def tree(kind: str, context: str, *children: Any) -> dict[str, Any]:
    return {"type": kind, "context": context, "children_spec": list(children)}


def spec(root: Any) -> str:
    return json.dumps([1, root])


def tensor(name: str) -> dict[str, Any]:
    return {"as_tensor": {"name": name}}


def program() -> dict[str, Any]:
    """Return a program of two nodes, `w + x` and a check of its size, as torch 2.13 spells it."""
    inputs = [{"name": "self", "arg": tensor("x"), "kind": 1}, {"name": "other", "arg": tensor("p_w"), "kind": 1}]
    node: dict[str, Any] = {
        "target": "torch.ops.aten.add.Tensor",
        "inputs": inputs,
        "outputs": [tensor("add")],
        "metadata": {},
        "is_hop_single_tensor_return": None,
        "name": "add",
    }
    check = node | {
        "target": "_operator.ge",
        "inputs": [{"name": "", "arg": {"as_sym_int": {"as_name": "s"}}, "kind": 1}],
        "outputs": [{"as_sym_bool": {"as_name": "ge"}}],
        "name": "ge",
    }
    call = {
        "inputs": [],
        "outputs": [],
        "in_spec": spec(tree("builtins.tuple", "null", tree("builtins.dict", '["x"]', LEAF))),
        "out_spec": spec(LEAF),
        "forward_arg_names": ["x"],
    }
    return {
        "graph_module": {
            "graph": {
                "inputs": [tensor("p_w"), tensor("x")],
                "outputs": [tensor("add")],
                "nodes": [node, check],
                "tensor_values": {"x": META | {"sizes": [SIZE]}, "p_w": META, "add": META},
                "sym_int_values": {"s": SIZE},
                "sym_bool_values": {"ge": {"as_bool": True}},
                "sym_float_values": {},
                "is_single_tensor_return": False,
                "custom_obj_values": {},
            },
            "signature": {
                "input_specs": [
                    {"parameter": {"arg": {"name": "p_w"}, "parameter_name": "w"}},
                    {"user_input": {"arg": tensor("x")}},
                ],
                "output_specs": [{"user_output": {"arg": tensor("add")}}],
            },
            "module_call_graph": [{"fqn": "", "signature": call}, {"fqn": "a.b", "signature": None}],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": 10},
        "range_constraints": {"s77": {"min_val": 1, "max_val": None}},
        "schema_version": {"major": 8, "minor": 20},
        "verifiers": ["TRAINING"],
        "torch_version": "2.13.0+cpu",
        "guards_code": [],
    }


WEIGHTS = {"config": {"w": {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": META}}}


def members() -> dict[str, Any]:
    return {
        "archive_format": b"pt2",
        "archive_version": b"0",
        "byteorder": b"little",
        ".data/version": b"6\n",
        "models/model.json": program(),
        "data/weights/model_weights_config.json": copy.deepcopy(WEIGHTS),
        "data/weights/weight_0": bytes(16),
        "data/constants/model_constants_config.json": {"config": {}},
        "data/sample_inputs/model.pt": b"",
    }


def archive(content: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name, value in content.items():
            text = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, separators=(",", ":"))
            target.writestr(f"model/{name}", text)
    return out.getvalue()


def seen(content: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Return the operators and the ids of the findings."""
    wire = pt2.inventory(archive(content)).to_wire()
    return {f"{o['namespace']}::{o['name']}" for o in wire["operators"]}, {f["id"] for f in wire["findings"]}


def test_a_plain_program_has_its_operators_and_no_finding() -> None:
    assert seen(members()) == ({"aten::add.Tensor", "_operator::ge"}, set())
    assert sniff(archive(members())) == "pt2"


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the program with one place changed: names and indices with dots between them."""
    document = program()
    *parents, last = path.split(".")
    place: Any = document
    for step in parents:
        place = place[int(step) if isinstance(place, list) else step]
    place[int(last) if isinstance(place, list) else last] = value
    return members() | {"models/model.json": document}


GRAPH = "graph_module.graph"
NODE = f"{GRAPH}.nodes.0"
CALL = "graph_module.module_call_graph.0.signature"


@pytest.mark.parametrize(
    ("path", "value", "finding"),
    [
        (f"{NODE}.target", "torch.os.system", "PT2-TARGET"),
        (f"{NODE}.target", "torch.ops.aten.add", "PT2-TARGET"),
        (f"{NODE}.target", "torch.ops.aten.add.Tensor.x", "PT2-TARGET"),
        (f"{NODE}.target", "math.ceil", "PT2-TARGET"),
        (f"{NODE}.target", 7, "PT2-TARGET"),
        (f"{NODE}.inputs.0.arg", {"as_operator": "torch.os.system"}, "PT2-TARGET"),
        (f"{NODE}.inputs.0.arg", {"as_graph": {"name": "g", "graph": {}}}, "PT2-SCHEMA"),
        (f"{NODE}.inputs.0.arg", {"as_custom_obj": {"name": "o", "class_fqn": "c"}}, "PT2-SCHEMA"),
        (f"{NODE}.inputs.0.arg", {"as_int": 1, "as_none": True}, "PT2-SCHEMA"),
        (f"{NODE}.inputs.0.arg", {"as_int": True}, "PT2-SCHEMA"),
        (f"{NODE}.inputs.0.arg", {"as_int": 1 << 63}, "PT2-SCHEMA"),
        (f"{NODE}.metadata", {"stack_trace": "/home/a/b.py"}, "PT2-METADATA"),
        (f"{NODE}.surprise", 1, "PT2-SCHEMA"),
        (f"{GRAPH}.custom_obj_values", {"o": {"name": "o", "class_fqn": "c"}}, "PT2-SCHEMA"),
        (
            f"{GRAPH}.sym_int_values",
            {"s": {"as_expr": {"expr_str": "__import__('os')", "hint": None}}},
            "PT2-EXPRESSION",
        ),
        ("graph_module.metadata", {"a": "b"}, "PT2-METADATA"),
        ("graph_module.treespec_namedtuple_fields", {"a": {"field_names": []}}, "PT2-SCHEMA"),
        ("guards_code", ["print(1)"], "PT2-GUARDS"),
        ("range_constraints", {"__import__('os')": {"min_val": 1, "max_val": 2}}, "PT2-EXPRESSION"),
        ("range_constraints", {"s1": {"min_val": "int('1')", "max_val": 2}}, "PT2-EXPRESSION"),
        ("opset_version", {"evil": 1}, "PT2-SCHEMA"),
        ("verifiers", ["EVIL"], "PT2-SCHEMA"),
        ("torch_version", "2.13.0\n", "PT2-SCHEMA"),
        (f"{CALL}.in_spec", "[1, {}]", "PT2-TREE"),
        (f"{CALL}.in_spec", "x", "PT2-TREE"),
        (f"{CALL}.in_spec", json.dumps([2, LEAF]), "PT2-TREE"),
        (f"{CALL}.in_spec", spec(tree("collections.namedtuple", "null")), "PT2-TREE"),
        (f"{CALL}.in_spec", spec(tree("collections.defaultdict", '["os", []]')), "PT2-TREE"),
        (f"{CALL}.out_spec", spec(tree("builtins.dict", '[{"__enum__": true, "fqn": "os:x"}]')), "PT2-TREE"),
        (f"{CALL}.out_spec", spec(tree("builtins.dict", "null")), "PT2-TREE"),
        (f"{CALL}.out_spec", spec(tree("builtins.tuple", "[]")), "PT2-TREE"),
        (f"{CALL}.in_spec", spec(tree("builtins.dict", '["x, y: exec(1)"]', LEAF)), "PT2-TREE"),
        (f"{CALL}.in_spec", spec(tree("builtins.dict", '["x.y"]', LEAF)), "PT2-TREE"),
        (f"{CALL}.in_spec", spec(tree("builtins.dict", '["x", "x"]', LEAF, LEAF)), "PT2-TREE"),
        (f"{CALL}.in_spec", spec(tree("builtins.dict", '["x"]')), "PT2-TREE"),
        (f"{CALL}.in_spec", spec(tree("builtins.dict", '["x" ]', LEAF)), "PT2-TREE"),
        (f"{CALL}.in_spec", spec(LEAF).replace("{", '{"type": "builtins.list", '), "PT2-TREE"),
        (f"{CALL}.forward_arg_names", ["x: exec(1)"], "PT2-SCHEMA"),
        (f"{CALL}.forward_arg_names", ["x.y"], "PT2-SCHEMA"),
        (f"{NODE}.name", "x.y", "PT2-SCHEMA"),
    ],
)
def test_what_loading_would_run_or_look_up_is_a_finding(path: str, value: Any, finding: str) -> None:
    assert finding in seen(changed(path, value))[1]


@pytest.mark.parametrize(
    ("expression", "plain"),
    [
        ("Symbol('s77', positive=True, integer=True)", True),
        ("Max(Integer(1), Symbol('u0', integer=True))", True),
        ("Integer(-3)", True),
        ("GreaterThan(Symbol('u0', integer=True), Integer(0))", True),
        ("Symbol('x')", False),
        ("Symbol('s1', positive=1)", False),
        ("Symbol('s1', evil=True)", False),
        ("Symbol(Symbol('s1'))", False),
        ("Integer('1')", False),
        ("Integer(9223372036854775808)", False),
        ("Add(*Integer(1))", False),
        ("Pow(Integer(9), Integer(9))", False),
        ("s77 + 1", False),
        ("Symbol('s1').__class__", False),
        ("__import__('os').system('true')", False),
        ("eval('1')", False),
        ("Max(Integer(1), evil=Integer(1))", False),
        ("", False),
        ("(" * 500, False),
        ("Integer(1) # a remark", False),
        ("Integer(1\n)", False),
        ('Symbol("s77")', False),
        ("Symbol('s\u0661')", False),
        ("Add(" * 400 + ")" * 400, False),
        ("Max(Integer(1), " + "Integer(1), " * 200 + ")", False),
    ],
)
def test_an_expression_is_arithmetic_over_sizes(expression: str, plain: bool) -> None:
    value = {"s": {"as_expr": {"expr_str": expression, "hint": None}}}
    assert ("PT2-EXPRESSION" not in seen(changed(f"{GRAPH}.sym_int_values", value))[1]) == plain


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in members().items() if key != name}


def colliding() -> dict[str, Any]:
    """Return a constant by the name of a weight."""
    config: Any = copy.deepcopy(WEIGHTS)
    config["config"]["w"]["path_name"] = "tensor_0"
    return {"data/constants/model_constants_config.json": config, "data/constants/tensor_0": bytes(16)}


def pickled() -> dict[str, Any]:
    config: Any = copy.deepcopy(WEIGHTS)
    config["config"]["w"]["use_pickle"] = True
    return members() | {"data/weights/model_weights_config.json": config}


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (lambda: members() | {"data/sample_inputs/model.pt": b"\x80"}, "PT2-SAMPLE-INPUTS"),
        (lambda: members() | {"data/aotinductor/model/a.so": b"\x7fELF"}, "PT2-NATIVE-CODE"),
        (lambda: members() | {"extra/x": b""}, "PT2-UNEXPECTED-MEMBER"),
        (lambda: members() | {"data/weights/model.pt": b""}, "PT2-UNEXPECTED-MEMBER"),
        (lambda: members() | {"data/constants/custom_obj_0": b""}, "PT2-UNEXPECTED-MEMBER"),
        (lambda: members() | {"data/constants/opaque_obj_0": b""}, "PT2-UNEXPECTED-MEMBER"),
        (lambda: members() | {"models/other.json": program()}, "PT2-UNEXPECTED-MEMBER"),
        (lambda: members() | {"archive_version": b"1"}, "PT2-MALFORMED"),
        (lambda: without("models/model.json"), "PT2-MALFORMED"),
        (lambda: without("data/sample_inputs/model.pt"), "PT2-MALFORMED"),
        (lambda: without("byteorder"), "PT2-MALFORMED"),
        (pickled, "PT2-PICKLE"),
        (lambda: members() | {"data/weights/weight_1": b""}, "PT2-MALFORMED"),
        (lambda: without("data/weights/weight_0"), "PT2-MALFORMED"),
        (lambda: members() | colliding(), "PT2-MALFORMED"),
        (lambda: members() | {"models/model.json": json.dumps(program()).encode()}, "PT2-FORM"),
        (lambda: members() | {"models/model.json": b'{"guards_code":[],"guards_code":["x"]}'}, "PT2-FORM"),
        (lambda: members() | {"models/model.json": b"[NaN]"}, "PT2-FORM"),
        (lambda: members() | {"models/model.json": b"\xff"}, "PT2-FORM"),
        (lambda: members() | {"models/model.json": b"[" * 100_000}, "PT2-FORM"),
        (lambda: members() | {"models/model.json": b" " * ((16 << 20) + 1)}, "PT2-MALFORMED"),
    ],
)
def test_members_are_those_of_a_plain_export(content: Callable[[], dict[str, Any]], finding: str) -> None:
    assert finding in seen(content())[1]


@pytest.mark.parametrize(
    ("path", "value", "detail"),
    [
        (f"{GRAPH}.nodes", {}, "not a list"),
        (f"{GRAPH}.tensor_values", [], "not an object"),
        (NODE, [], "not an object"),
        (NODE, {"target": "_operator.ge"}, "without the field"),
        (f"{NODE}.inputs.0.arg", {}, "not exactly one of its kinds"),
        (f"{NODE}.inputs.0.arg", {"as_string": "x" * 201}, "not foreseen"),
        (f"{NODE}.inputs.0.arg", {"as_evil": 1}, "a field that is not foreseen"),
        (f"{NODE}.inputs.0.arg", {"as_bool": 1}, "not true or false"),
    ],
)
def test_a_part_of_another_shape_is_found_for_itself(path: str, value: Any, detail: str) -> None:
    wire = pt2.inventory(archive(changed(path, value))).to_wire()
    assert any(detail in finding["detail"] for finding in wire["findings"]), wire["findings"]


def test_shapes_go_no_deeper_than_their_limit() -> None:
    def lists(depth: int) -> tuple[Any, Any]:
        return ([lists(depth - 1)[0]], [lists(depth - 1)[1]]) if depth else (1, "an integer")

    shapes: Any = import_module("worker.inventory.shapes")
    assert list(shapes.misfits(*lists(12))) == []
    shape, value = "an integer", 1
    for _ in range(33):
        shape, value = [shape], [value]  # type: ignore[assignment]
    assert [wrong for _, wrong in shapes.misfits(value, shape)] == ["nested deeper than 32"]
    assert list(shapes.misfits(value[0], shape[0])) == []  # type: ignore[index]


def test_a_program_may_have_so_many_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pt2, "_NODES_MAX", 2)
    assert seen(members())[1] == set()
    monkeypatch.setattr(pt2, "_NODES_MAX", 1)
    assert seen(members())[1] == {"PT2-SCHEMA"}


def test_a_constant_by_the_name_of_a_weight_is_found_for_itself() -> None:
    wire = pt2.inventory(archive(members() | colliding())).to_wire()
    assert [f["detail"] for f in wire["findings"]] == [
        "a weight and a constant of one name: w",
        "payloads that no configuration names, or that are not there",
    ]


def test_two_top_folders_are_a_finding() -> None:
    out = io.BytesIO(archive(members()))
    with zipfile.ZipFile(out, "a") as target:
        target.writestr("other/data/weights/weight_1", b"")
    details = [f["detail"] for f in pt2.inventory(out.getvalue()).to_wire()["findings"]]
    assert "members do not share one top folder" in details
    assert {f["id"] for f in pt2.inventory(out.getvalue()[:-1]).to_wire()["findings"]} == {"PT2-MALFORMED"}
