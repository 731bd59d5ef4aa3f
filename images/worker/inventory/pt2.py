"""PT2 archives (torch.export): every operator that the graph calls, and every place where loading would run code.

`torch.export.load` of torch 2.13 runs what these hold: a payload marked `use_pickle` (torch.load of any pickle), the
sample inputs (the same), expressions and range keys (sympy.sympify, which evaluates them), `guards_code` (exec), and
the context of a tree specification (imports the module that an enum names). `module()` then writes Python text with
the names of arguments in it, and runs that: a key of the inputs' tree is code. Seen firing, or read in its sources,
2026-11. AOTInductor's libraries run when they are opened. So sample inputs and guards are empty here, expressions are
of a small grammar, trees are of tuples, lists and dicts with identifiers for keys, and the program is one strict
document in one spelling.
Schema: torch/_export/serde/schema.py, version 8.20.
"""

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from worker.inventory.report import Data, Inventory
from worker.inventory.shapes import Fields, MapOf, Maybe, OneOf, misfits
from worker.inventory.zip_layout import read_members

_UNPACKED_BYTES_MAX = 8 << 30
_JSON_BYTES_MAX = 16 << 20
_NODES_MAX = 200_000
_PROGRAM = "models/model.json"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_EMPTY = "data/sample_inputs/model.pt"
_FIXED = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little", ".data/version": b"6\n"}
_PAYLOADS = re.compile(r"data/(weights/weight|constants/tensor)_[0-9]{1,9}")
_EXPRESSION = re.compile(r"[A-Za-z0-9_(),=' -]{1,2000}")

# Names become identifiers in Python text that torch.fx writes and runs, keys of the arguments' tree as well.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")
_PATH = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.]{0,400})?")
_SYMBOL = re.compile(r"[su][0-9]{1,9}")
_DEVICE = re.compile(r"cpu|cuda")
_TEXT = re.compile(r"[\x20-\x7e]{0,200}")
_OPERATOR = re.compile(r"torch\.ops\.([A-Za-z_]\w{0,63})\.(\w{1,100}\.\w{1,60})", re.ASCII)
_PYTHON_OPERATOR = re.compile(r"_operator\.([a-z_]{1,20})")
_RELATIONS = ("GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan", "Equality", "Unequality")
_FUNCTIONS = frozenset({"Add", "Mul", "Max", "Min", *_RELATIONS})
_ASSUMPTIONS = frozenset({"integer", "positive", "nonnegative"})
_TREE_TYPES = ("builtins.tuple", "builtins.list", "builtins.dict")


def inventory(data: Data) -> Inventory:
    """List what a PT2 archive uses."""
    report = Inventory("pt2")
    try:
        members = read_members(data, unpacked_bytes_max=_UNPACKED_BYTES_MAX, deflated=False)
    except ValueError as err:
        report.find("PT2-MALFORMED", "file", f"not one plain archive: {err}")
        return report
    if len({name.partition("/")[0] for name in members}) != 1:
        report.find("PT2-MALFORMED", "file", "members do not share one top folder")
    inside = {name.partition("/")[2]: member.head for name, member in members.items()}
    for name, content in inside.items():
        _member(report, name, content)
    _payloads(report, inside)
    if missing := {_PROGRAM, _EMPTY, *_CONFIGS, *_FIXED} - inside.keys():
        report.find("PT2-MALFORMED", "file", f"without the member {min(missing)}")
    return report


def _payloads(report: Inventory, inside: dict[str, memoryview]) -> None:
    """Each payload is what a configuration names, and each name stands in one of the two."""
    named: dict[str, str] = {}
    for config, folder in zip(_CONFIGS, ("data/weights/", "data/constants/"), strict=True):
        try:
            entries = json.loads(bytes(inside[config]))["config"]
            paths = {name: folder + entry["path_name"] for name, entry in entries.items()}
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            return  # which its shape has said
        if twice := named.keys() & paths.keys():
            report.find("PT2-MALFORMED", config, f"a weight and a constant of one name: {min(twice)}")
        named |= paths
    if set(named.values()) != {name for name in inside if _PAYLOADS.fullmatch(name)}:
        report.find("PT2-MALFORMED", "file", "payloads that no configuration names, or that are not there")


def _member(report: Inventory, name: str, content: memoryview) -> None:
    if name == _PROGRAM:
        _check(report, name, content, _PROGRAM_SHAPE)
    elif name in _CONFIGS:
        _check(report, name, content, _CONFIG_SHAPE)
    elif name == _EMPTY:
        if content:
            report.find("PT2-SAMPLE-INPUTS", name, "sample inputs are a pickle, and of the job's own data")
    elif name.startswith("data/aotinductor/"):
        report.find("PT2-NATIVE-CODE", name, "a compiled model: its library runs when it is opened")
    elif name in _FIXED:
        if content != _FIXED[name]:
            report.find("PT2-MALFORMED", name, f"not {_FIXED[name]!r}")
    elif not _PAYLOADS.fullmatch(name):
        report.find("PT2-UNEXPECTED-MEMBER", name, "not a member that tools.export_to_pt2.normalise leaves")


def _check(report: Inventory, name: str, content: memoryview, shape: Any) -> None:
    document = _parse(report, name, content)
    if document is None:
        return
    for place, wrong in misfits(document, shape):
        report.find(_finding_at(place), f"{name}:{place}", wrong)
    if name == _PROGRAM:
        _operators(report, document)


def _parse(report: Inventory, name: str, content: memoryview) -> Any:
    """Return the document where it is spelt as `json.dumps` with sorted keys and no spaces spells it."""
    if len(content) > _JSON_BYTES_MAX:
        report.find("PT2-MALFORMED", name, f"longer than {_JSON_BYTES_MAX} bytes")
        return None
    try:
        document = json.loads(bytes(content).decode("ascii"))
        if json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() == content:
            return document
    except (ValueError, RecursionError):
        pass
    report.find("PT2-FORM", name, "not JSON in the one form that tools.export_to_pt2.normalise leaves")
    return None


def _finding_at(place: str) -> str:
    """Name the finding of a misfit by where it stands."""
    for end, finding in (
        (".target", "PT2-TARGET"),
        (".as_operator", "PT2-TARGET"),
        (".expr_str", "PT2-EXPRESSION"),
        (".guards_code", "PT2-GUARDS"),
        (".use_pickle", "PT2-PICKLE"),
        (".in_spec", "PT2-TREE"),
        (".out_spec", "PT2-TREE"),
        (".metadata", "PT2-METADATA"),
    ):
        if place.endswith(end):
            return finding
    return "PT2-EXPRESSION" if place.startswith("$.range_constraints.") else "PT2-SCHEMA"


def _operators(report: Inventory, document: Any) -> None:
    """Count the target of each node and each operator that is an argument, wherever they stand."""
    for seen, (key, text, place) in enumerate(_targets(document, "$", 0)):
        if seen >= _NODES_MAX:
            report.find("PT2-SCHEMA", place, f"more than {_NODES_MAX} nodes")
            return
        if found := _OPERATOR.fullmatch(text):
            report.use(found[1], found[2], place)
        elif found := _PYTHON_OPERATOR.fullmatch(text):
            report.use("_operator", found[1], place)
        else:
            report.use("python", text, f"{place}.{key}")


def _targets(value: Any, place: str, depth: int) -> Iterator[tuple[str, str, str]]:
    if depth > 32:
        return  # which `misfits` has said
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("target", "as_operator") and isinstance(item, str):
                yield key, item, place
            else:
                yield from _targets(item, f"{place}.{key[:80]}", depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _targets(item, f"{place}[{index}]", depth + 1)


def _wrong_target(value: Any) -> str:
    if isinstance(value, str) and (_OPERATOR.fullmatch(value) or _PYTHON_OPERATOR.fullmatch(value)):
        return ""
    return f"neither torch.ops.NAMESPACE.NAME.OVERLOAD nor _operator.NAME: {str(value)[:80]!r}"


def _wrong_expression(value: Any) -> str:
    """Tell what is wrong with a symbolic expression: it must be calls of few functions on symbols and integers."""
    if not isinstance(value, str) or not _EXPRESSION.fullmatch(value):
        return "too long, or with characters that no expression has"
    try:
        tree = ast.parse(value, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return f"does not parse: {value[:80]!r}"
    return "" if _is_expression(tree.body) else f"more than arithmetic over sizes: {value[:80]!r}"


def _is_expression(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    name, arguments = node.func.id, node.args
    if name == "Integer":
        return not node.keywords and len(arguments) == 1 and _is_integer(arguments[0])
    if name == "Symbol":
        plain = all(k.arg in _ASSUMPTIONS and _is_constant(k.value, True) for k in node.keywords)
        symbol = arguments[0].value if len(arguments) == 1 and isinstance(arguments[0], ast.Constant) else None
        return plain and isinstance(symbol, str) and bool(_SYMBOL.fullmatch(symbol))
    return name in _FUNCTIONS and not node.keywords and all(map(_is_expression, arguments))


def _is_integer(node: ast.AST) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value < 1 << 63


def _is_constant(node: ast.AST, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _wrong_tree(value: Any) -> str:
    """Tell what is wrong with a tree specification: it must be of tuples, lists and dicts with text keys."""
    try:
        version, tree = document = json.loads(value)
        if json.dumps(document) != value:
            return "a tree specification in another spelling than torch's"
    except (TypeError, ValueError, RecursionError):
        return "not a tree specification"
    return "" if version == 1 and _is_tree(tree, 0) else "a tree of other types than tuples, lists and dicts"


def _is_tree(tree: Any, depth: int) -> bool:
    if not isinstance(tree, dict) or set(tree) != {"type", "context", "children_spec"} or depth > 16:
        return False
    kind, context, children = tree["type"], tree["context"], tree["children_spec"]
    if not isinstance(children, list) or not all(_is_tree(child, depth + 1) for child in children):
        return False
    if kind is None:
        return context is None and not children
    if kind != "builtins.dict":
        return kind in _TREE_TYPES and context == "null"
    try:
        keys = json.loads(context)
    except (TypeError, ValueError, RecursionError):
        return False
    plain = isinstance(keys, list) and all(isinstance(key, str) and _NAME.fullmatch(key) for key in keys)
    return plain and len(set(keys)) == len(keys) == len(children) and json.dumps(keys) == context


_INT, _BOOL, _FLOAT = "an integer", "true or false", "a number"
_HINT = OneOf({"as_int": _INT, "as_bool": _BOOL, "as_float": _FLOAT})
_EXPR = Fields({"expr_str": _wrong_expression, "hint": Maybe(_HINT)})
_SIZE = OneOf({"as_expr": _EXPR, "as_int": _INT})
_FIXED_SIZE = OneOf({"as_int": _INT})
_DEVICE_SHAPE = Fields({"type": _DEVICE, "index": Maybe(_INT)})
_TENSOR = Fields({"name": _NAME})
_OPTIONAL_TENSOR = OneOf({"as_tensor": _TENSOR, "as_none": _BOOL})
_SIZE_ARGUMENT = OneOf({"as_name": _NAME, "as_int": _INT})
_BOOL_ARGUMENT = OneOf({"as_name": _NAME, "as_bool": _BOOL})
_FLOAT_ARGUMENT = OneOf({"as_name": _NAME, "as_float": _FLOAT})
_ARGUMENT = OneOf(
    {
        "as_none": _BOOL,
        "as_tensor": _TENSOR,
        "as_tensors": [_TENSOR],
        "as_int": _INT,
        "as_ints": [_INT],
        "as_float": _FLOAT,
        "as_floats": [_FLOAT],
        "as_string": _TEXT,
        "as_strings": [_TEXT],
        "as_sym_int": _SIZE_ARGUMENT,
        "as_sym_ints": [_SIZE_ARGUMENT],
        "as_scalar_type": _INT,
        "as_memory_format": _INT,
        "as_layout": _INT,
        "as_device": _DEVICE_SHAPE,
        "as_bool": _BOOL,
        "as_bools": [_BOOL],
        "as_sym_bool": _BOOL_ARGUMENT,
        "as_sym_bools": [_BOOL_ARGUMENT],
        "as_sym_float": _FLOAT_ARGUMENT,
        "as_sym_floats": [_FLOAT_ARGUMENT],
        "as_optional_tensor": _OPTIONAL_TENSOR,
        "as_optional_tensors": [_OPTIONAL_TENSOR],
        "as_operator": _wrong_target,
    }
)


def _tensor_meta(size: Any) -> Fields:
    return Fields(
        {
            "dtype": _INT,
            "sizes": [size],
            "requires_grad": _BOOL,
            "device": _DEVICE_SHAPE,
            "strides": [size],
            "storage_offset": size,
            "layout": _INT,
        }
    )


_NODE = Fields(
    {
        "target": _wrong_target,
        "inputs": [Fields({"name": _PATH, "arg": _ARGUMENT, "kind": Maybe(_INT)})],
        "outputs": [_ARGUMENT],
        "metadata": "empty",
        "is_hop_single_tensor_return": Maybe(_BOOL),
        "name": Maybe(_NAME),
    }
)
_GRAPH = Fields(
    {
        "inputs": [_ARGUMENT],
        "outputs": [_ARGUMENT],
        "nodes": [_NODE],
        "tensor_values": MapOf(_NAME, _tensor_meta(_SIZE)),
        "sym_int_values": MapOf(_NAME, _SIZE),
        "sym_bool_values": MapOf(_NAME, OneOf({"as_expr": _EXPR, "as_bool": _BOOL})),
        "sym_float_values": MapOf(_NAME, OneOf({"as_expr": _EXPR, "as_float": _FLOAT})),
        "is_single_tensor_return": _BOOL,
        "custom_obj_values": "empty",
    }
)
_INPUT_SPEC = OneOf(
    {
        "user_input": Fields({"arg": _ARGUMENT}),
        "parameter": Fields({"arg": _TENSOR, "parameter_name": _PATH}),
        "buffer": Fields({"arg": _TENSOR, "buffer_name": _PATH, "persistent": _BOOL}),
        "tensor_constant": Fields({"arg": _TENSOR, "tensor_constant_name": _PATH}),
    }
)
_OUTPUT_SPEC = OneOf({"user_output": Fields({"arg": _ARGUMENT})})
_CALL = Fields(
    {
        "inputs": [_ARGUMENT],
        "outputs": [_ARGUMENT],
        "in_spec": _wrong_tree,
        "out_spec": _wrong_tree,
        "forward_arg_names": Maybe([_NAME]),
    }
)
_PROGRAM_SHAPE = Fields(
    {
        "graph_module": Fields(
            {
                "graph": _GRAPH,
                "signature": Fields({"input_specs": [_INPUT_SPEC], "output_specs": [_OUTPUT_SPEC]}),
                "module_call_graph": [Fields({"fqn": _PATH, "signature": Maybe(_CALL)})],
                "metadata": "empty",
                "treespec_namedtuple_fields": "empty",
            }
        ),
        "opset_version": MapOf(re.compile("aten"), _INT),
        "range_constraints": MapOf(_SYMBOL, Fields({"min_val": Maybe(_INT), "max_val": Maybe(_INT)})),
        "schema_version": Fields({"major": _INT, "minor": _INT}),
        "verifiers": [re.compile(r"TRAINING|ATEN")],
        "torch_version": re.compile(r"[0-9a-z.+]{1,40}"),
        "guards_code": "empty",
    }
)
_CONFIG_SHAPE = Fields(
    {
        "config": MapOf(
            _PATH,
            Fields(
                {
                    "path_name": re.compile(r"(weight|tensor)_[0-9]{1,9}"),
                    "is_param": _BOOL,
                    "use_pickle": "false",
                    "tensor_meta": _tensor_meta(_FIXED_SIZE),
                }
            ),
        )
    }
)
