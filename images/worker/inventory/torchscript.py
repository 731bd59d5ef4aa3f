"""TorchScript archives: every operator that the code can reach, found by parsing what torch and Python read alike.

Default deny holds for the language as for the operators. Code is printable ASCII without comments, backslashes and
triple quotes (Python and torch disagree on carriage returns and on coding cookies); classes are plain modules whose
only methods are `forward` (`__setstate__` runs when the file is loaded); syntax is the few node types that tracing
emits. `torch.NAME(...)` is `aten::NAME` and `ops.ns.NAME(...)` is `ns::NAME`; an operator as a value, a call of
anything but an operator, a `forward` or a cast, and an attribute that no class declares are findings. All of these
were seen running past a matcher of calls (measured 2026-11). The pickles are disassembled, never loaded.
"""

import ast
import re

from worker.inventory.opcodes import instructions
from worker.inventory.report import Data, Inventory
from worker.inventory.zip_layout import read_members

_UNPACKED_BYTES_MAX = 8 << 30
_CODE_BYTES_MAX = 4 << 20
_EXPECTED = re.compile(
    r"data\.pkl|constants\.pkl|version|byteorder|\.format_version|\.storage_alignment"
    r"|(data|constants)/\d+|code/__torch__(/[A-Za-z0-9_]+)*\.py"
)
_LEXICAL = re.compile(r"[\n\x20-\x7e]*")
_UNREADABLE = ("#", "\\", '"""', "'''", ";")
_NAMESPACES = ("torch", "ops", "__torch__")
_CASTS = frozenset({"annotate", "bool", "float", "int", "len", "unchecked_cast", "uninitialized"})
_CONSTANTS = "CONSTANTS"
_CONSTANT = re.compile(r"c\d+")
_RESERVED = frozenset({*_NAMESPACES, *_CASTS, _CONSTANTS, "getattr", "self"})
_FORWARD = re.compile(r"forward\d*")
_NODES = (
    *(ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.Assign, ast.AnnAssign, ast.Expr),
    *(ast.Return, ast.If, ast.Pass, ast.Name, ast.Attribute, ast.Call, ast.keyword, ast.Constant, ast.Tuple, ast.List),
    *(ast.Subscript, ast.UnaryOp, ast.USub, ast.Not, ast.IfExp, ast.Load, ast.Store),
)


def inventory(data: Data) -> Inventory:
    """List what a TorchScript archive uses."""
    report = Inventory("torchscript")
    try:
        members = read_members(data, unpacked_bytes_max=_UNPACKED_BYTES_MAX, deflated=False)
    except ValueError as err:
        report.find("TS-MALFORMED", "file", f"not one plain archive: {err}")
        return report
    if len({n.partition("/")[0] for n in members}) != 1:
        report.find("TS-MALFORMED", "file", "members do not share one top folder")
    trees: dict[str, ast.Module] = {}
    for name, member in members.items():
        inside, content = name.partition("/")[2], member.head
        if not _EXPECTED.fullmatch(inside):
            report.find("TS-UNEXPECTED-MEMBER", inside, "not a member that tools.script_model.normalise leaves")
        elif inside.endswith(".py"):
            tree = _parse(report, content, inside)
            if tree is not None:
                trees[inside] = tree
        elif inside.endswith(".pkl"):
            _pickle(report, content, inside)
    declared = {name for tree in trees.values() for name in _declared(tree)}
    for place, tree in trees.items():
        _Code(report, place, declared).check(tree)
    return report


def _parse(report: Inventory, source: memoryview, place: str) -> ast.Module | None:
    text = bytes(source[: _CODE_BYTES_MAX + 1]).decode("latin-1")
    if len(text) > _CODE_BYTES_MAX or not _LEXICAL.fullmatch(text) or any(mark in text for mark in _UNREADABLE):
        report.find("TS-CODE-TEXT", place, "code is too long, or holds text that Python and torch may read differently")
        return None
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as err:
        report.find("TS-MALFORMED", place, f"code does not parse: {err}")
        return None


def _declared(tree: ast.Module) -> set[str]:
    """Return the attributes that classes declare: `name : type`, and `__annotations__["name"] = type`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            names.add(str(node.slice.value))
    return names


class _Code:
    """Checks one code file, top down."""

    def __init__(self, report: Inventory, place: str, declared: set[str]) -> None:
        self._report = report
        self._place = place
        self._declared = declared

    def check(self, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if not isinstance(node, _NODES):
                self._find("TS-SYNTAX", node, f"{type(node).__name__} is not a part of released TorchScript")
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in _RESERVED:
                self._find("TS-SHADOWING", node, f"{node.id} is assigned to")
            elif isinstance(node, ast.arg) and node.arg in _RESERVED - {"self"}:
                self._find("TS-SHADOWING", node, f"{node.arg} is an argument")
        for statement in tree.body:
            if isinstance(statement, ast.ClassDef):
                self._class(statement)
            else:
                self._find("TS-STRUCTURE", statement, "code outside of a class")

    def _class(self, node: ast.ClassDef) -> None:
        bases = [b.id if isinstance(b, ast.Name) else "?" for b in node.bases]
        if bases != ["Module"] or node.keywords or node.decorator_list:
            self._find("TS-STRUCTURE", node, f"class {node.name} is not a plain module")
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef):
                self._method(statement)
            elif isinstance(statement, ast.AnnAssign) and statement.value is None:
                self._type(statement.annotation)
            elif isinstance(statement, ast.Assign) and self._is_listing(statement):
                continue
            elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
                self._type(statement.value)
            elif not isinstance(statement, ast.Pass):
                self._find("TS-STRUCTURE", statement, "a class holds more than attributes and forward methods")

    def _is_listing(self, node: ast.Assign) -> bool:
        """`__parameters__ = ["weight", "bias", ]` and the like: names alone."""
        plain = isinstance(node.value, ast.List) and all(isinstance(e, ast.Constant) for e in node.value.elts)
        return plain and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)

    def _method(self, node: ast.FunctionDef) -> None:
        if not _FORWARD.fullmatch(node.name) or node.decorator_list:
            self._find("TS-METHOD", node, f"method {node.name}: only forward methods are released")
        arguments = node.args
        for argument in arguments.args:
            if argument.annotation is not None:
                self._type(argument.annotation)
        if node.returns is not None:
            self._type(node.returns)
        if arguments.defaults or arguments.kw_defaults or arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
            self._find("TS-STRUCTURE", node, "a method with defaults, or with arguments by keyword")
        for statement in node.body:
            self._code(statement)

    def _type(self, node: ast.expr) -> None:
        """A type is names, subscripts and `__torch__` paths; a string would be parsed a second time by torch."""
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and part.value is not None:
                self._find("TS-STRUCTURE", part, "a constant in a type")
            elif isinstance(part, ast.Call):
                self._find("TS-STRUCTURE", part, "a call in a type")
            elif isinstance(part, ast.Attribute):
                self._class_use(part)

    def _code(self, node: ast.AST) -> None:
        if isinstance(node, ast.AnnAssign):
            self._find("TS-STRUCTURE", node, "a declaration inside of a method")
        elif isinstance(node, ast.Call):
            self._call(node)
            return
        elif isinstance(node, ast.Attribute):
            self._attribute(node)
            return
        elif isinstance(node, ast.Name) and node.id in (*_NAMESPACES, _CONSTANTS):
            self._find("TS-NAMESPACE-AS-VALUE", node, f"{node.id} used as a value")
        for child in ast.iter_child_nodes(node):
            self._code(child)

    def _call(self, node: ast.Call) -> None:
        function, root, path = node.func, *_chain(node.func)
        arguments: list[ast.AST] = [*node.args, *node.keywords]
        if root == "torch" and len(path) == 1:
            self._use("aten", path[0], node)
        elif root == "ops" and len(path) == 2:
            self._use(path[0], path[1], node)
        elif root in _NAMESPACES:
            self._find("TS-NAMESPACE-AS-VALUE", node, f"call of {root}.{'.'.join(path)}")
        elif isinstance(function, ast.Attribute):
            if not _FORWARD.fullmatch(function.attr):  # an operator in method syntax
                self._use("aten", function.attr, node)
            self._code(function.value)
        elif isinstance(function, ast.Name) and function.id == "getattr":
            self._getattr(node)
            arguments = list(node.args[:1])
        elif isinstance(function, ast.Name) and function.id in _CASTS:
            if function.id in ("annotate", "unchecked_cast", "uninitialized") and node.args:
                self._type(node.args[0])
                arguments = list(node.args[1:])
        elif isinstance(function, ast.Name):
            self._use("prim", function.id, node)
        else:
            self._find("TS-STRUCTURE", node, "call of a value")
            self._code(function)
        for argument in arguments:
            self._code(argument)

    def _getattr(self, node: ast.Call) -> None:
        """`getattr(self, "0")`: how an attribute is read whose name is no identifier."""
        name = node.args[1].value if len(node.args) == 2 and isinstance(node.args[1], ast.Constant) else None
        if not isinstance(name, str) or node.keywords or name not in self._declared:
            self._find("TS-ATTRIBUTE", node, "getattr of an attribute that no class declares")

    def _attribute(self, node: ast.Attribute) -> None:
        root, path = _chain(node)
        if root == _CONSTANTS and len(path) == 1 and _CONSTANT.fullmatch(path[0]) and isinstance(node.ctx, ast.Load):
            return  # a tensor of constants.pkl
        if root in _NAMESPACES:
            self._find("TS-NAMESPACE-AS-VALUE", node, f"{root}.{'.'.join(path)} used as a value")
        elif not isinstance(node.ctx, ast.Load) or node.attr not in self._declared:
            self._find("TS-ATTRIBUTE", node, f"attribute {node.attr} is assigned to, or declared by no class")
        if root not in _NAMESPACES:
            self._code(node.value)

    def _class_use(self, node: ast.Attribute) -> None:
        root, path = _chain(node)
        if root == "__torch__" and path[:2] == ["torch", "classes"] and len(path) > 3:
            self._use("class:" + ".".join(path[2:-1]), path[-1], node)
        elif root not in ("__torch__", None):
            self._find("TS-STRUCTURE", node, f"a type under {root}")

    def _use(self, namespace: str, name: str, node: ast.AST) -> None:
        self._report.use(namespace, name, f"{self._place}:{getattr(node, 'lineno', 0)}")

    def _find(self, finding: str, node: ast.AST, detail: str) -> None:
        self._report.find(finding, f"{self._place}:{getattr(node, 'lineno', 0)}", detail)


def _chain(node: ast.expr) -> tuple[str | None, list[str]]:
    """Return the root name of `a.b.c` and the path behind it; no name where it begins in something else."""
    path: list[str] = []
    while isinstance(node, ast.Attribute):
        path.insert(0, node.attr)
        node = node.value
    return (node.id if isinstance(node, ast.Name) else None), path


def _pickle(report: Inventory, data: memoryview, place: str) -> None:
    """List the globals of a pickle, as `pickle::module.name` operators."""
    try:
        for opcode, argument, position in instructions(data):
            where = f"{place}@{position}"
            if opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                _global(report, module, name, where)
            elif opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "OBJ", "NEWOBJ_EX"):
                report.find("TS-PICKLE-OPCODE", where, f"{opcode.name} is not written by torch.jit.save")
    except (ValueError, IndexError, KeyError) as err:
        report.find("TS-MALFORMED", place, f"not a readable pickle: {err}")


def _global(report: Inventory, module: str, name: str, where: str) -> None:
    if module.startswith("__torch__.torch.classes."):
        report.use("class:" + module.removeprefix("__torch__.torch.classes."), name, where)
    elif module != "__torch__" and not module.startswith("__torch__."):  # classes of the archive's own code
        report.use("pickle", f"{module}.{name}", where)
