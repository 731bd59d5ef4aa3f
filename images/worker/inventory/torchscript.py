"""TorchScript archives: every operator that the code can reach, found by parsing it as the Python subset that it is.

`torch.NAME` is `aten::NAME` and `ops.ns.NAME` is `ns::NAME`. Spellings that run but defeat a matcher of calls were
measured (2026-11): an operator used as a value, `getattr` on `torch` or `ops`, and method syntax on a tensor. So every
attribute reference counts, and `torch`, `ops` or an operator namespace used as a value is a finding of its own.
The pickles are disassembled, never loaded.
"""

import ast
import io
import pickletools
import re
import zipfile

from worker.inventory.report import Inventory

_CODE_BYTES_MAX = 4 << 20
_MEMBERS_MAX = 10_000
_EXPECTED = re.compile(
    r"data\.pkl|constants\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id"
    r"|(data|constants)/\d+|code/__torch__(/[A-Za-z0-9_]+)*\.py"
)
_ROOTS = ("torch", "ops", "__torch__")
# How the serialiser itself calls the methods of modules: never an operator's name.
_METHOD = re.compile(r"forward\d*|__forward\d*")
_STRING_OPCODES = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")


def inventory(data: bytes) -> Inventory:
    """List what a TorchScript archive uses."""
    report = Inventory("torchscript")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _members(report, archive)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as err:
        report.find("TS-MALFORMED", "file", f"not a readable archive: {err}")
    return report


def _members(report: Inventory, archive: zipfile.ZipFile) -> None:
    infos = archive.infolist()
    names = [i.filename for i in infos]
    roots = {n.partition("/")[0] for n in names}
    if len(set(names)) != len(names) or len(roots) != 1 or len(names) > _MEMBERS_MAX:
        report.find("TS-MALFORMED", "file", "duplicate members, several roots, or too many members")
        return
    for info in infos:
        inside = info.filename.partition("/")[2]
        if not _EXPECTED.fullmatch(inside):
            report.find("TS-UNEXPECTED-MEMBER", inside, "not a member that torch.jit.save writes")
        elif info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            report.find("TS-MALFORMED", inside, "compressed or encrypted member")
        elif inside.endswith(".py"):
            if info.file_size > _CODE_BYTES_MAX:
                report.find("TS-MALFORMED", inside, "code is too large to read")
            else:
                _code(report, archive.read(info), inside)
        elif inside.endswith(".pkl"):
            _pickle(report, archive.read(info), inside)


def _code(report: Inventory, source: bytes, place: str) -> None:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as err:
        report.find("TS-MALFORMED", place, f"code does not parse: {err}")
        return
    covered: set[int] = set()
    for node in ast.walk(tree):  # breadth first, so that a chain is met at its outer end
        if isinstance(node, ast.Attribute) and id(node) not in covered:
            _chain(report, node, place, covered)
        elif isinstance(node, ast.Name) and node.id in _ROOTS and id(node) not in covered:
            report.find("TS-NAMESPACE-AS-VALUE", f"{place}:{node.lineno}", f"{node.id} used as a value")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            _method(report, node.func, place)


def _chain(report: Inventory, node: ast.Attribute, place: str, covered: set[int]) -> None:
    parts: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        covered.add(id(inner))
        parts.append(inner.attr)
        inner = inner.value
    if not isinstance(inner, ast.Name) or inner.id not in _ROOTS:
        return
    covered.add(id(inner))
    where, path = f"{place}:{node.lineno}", list(reversed(parts))
    if inner.id == "torch" and len(path) == 1:
        report.use("aten", path[0], where)
    elif inner.id == "ops" and len(path) == 2:
        report.use(path[0], path[1], where)
    elif inner.id == "__torch__":
        if path[:2] == ["torch", "classes"]:
            report.use("class:" + ".".join(path[2:-1]), path[-1], where)
    else:
        report.find("TS-NAMESPACE-AS-VALUE", where, f"{inner.id}.{'.'.join(path)} is not an operator")


def _method(report: Inventory, function: ast.Attribute, place: str) -> None:
    """`x.NAME(...)` on anything but a namespace: a module's own `forward`, else an operator in method syntax."""
    root: ast.expr = function
    while isinstance(root, ast.Attribute):
        root = root.value
    rooted = isinstance(root, ast.Name) and root.id in _ROOTS
    if not rooted and not _METHOD.fullmatch(function.attr):
        report.use("aten", function.attr, f"{place}:{function.lineno}")


def _pickle(report: Inventory, data: bytes, place: str) -> None:
    """List the globals of a pickle, as `pickle::module.name` operators."""
    strings: list[str] = []
    try:
        for opcode, argument, position in pickletools.genops(data):
            where = f"{place}@{position}"
            if opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                _global(report, module, name, where)
            elif opcode.name == "STACK_GLOBAL":
                module, name = strings[-2:] if len(strings) > 1 else ("?", "?")
                _global(report, module, name, where)
            elif opcode.name in ("INST", "EXT1", "EXT2", "EXT4", "OBJ", "NEWOBJ_EX"):
                report.find("TS-PICKLE-OPCODE", where, opcode.name)
            elif opcode.name in _STRING_OPCODES:
                strings.append(str(argument))
    except (ValueError, IndexError, KeyError) as err:
        report.find("TS-MALFORMED", place, f"not a readable pickle: {err}")


def _global(report: Inventory, module: str, name: str, where: str) -> None:
    if module.startswith("__torch__.torch.classes."):
        report.use("class:" + module.removeprefix("__torch__.torch.classes."), name, where)
    elif module != "__torch__" and not module.startswith("__torch__."):  # classes of the archive's own code
        report.use("pickle", f"{module}.{name}", where)
