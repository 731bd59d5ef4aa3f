"""The TorchScript inventory: what tracing emits passes, and every spelling that hides an operator is a finding.

The hostile samples are those that were seen running past earlier versions of the inventory (2026-11).
"""

import io
import zipfile
from importlib import import_module
from typing import Any

import pytest

torchscript: Any = import_module("worker.inventory.torchscript")

HEAD = 'class M(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = []\n  w : Tensor\n  sub : __torch__.M\n'
HEAD += '  __annotations__["0"] = __torch__.M\n'
BODY = "  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n"
PICKLE = b"\x80\x02c__torch__\nM\nq\x00)\x81}(X\x08\x00\x00\x00trainingq\x01\x89ub."


def archive(code: str, **members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        target.writestr("model/data.pkl", members.pop("pickle", PICKLE))
        target.writestr("model/code/__torch__.py", code)
        for name, content in members.items():
            target.writestr(f"model/{name}", content)
    return out.getvalue()


def seen(code: str, **members: bytes) -> tuple[set[str], set[str]]:
    """Return the operators and the ids of the findings."""
    wire = torchscript.inventory(archive(code, **members)).to_wire()
    return {f"{o['namespace']}::{o['name']}" for o in wire["operators"]}, {f["id"] for f in wire["findings"]}


def line(text: str) -> tuple[set[str], set[str]]:
    return seen(f"{HEAD}{BODY}    {text}\n    return x\n")


@pytest.mark.parametrize(
    ("text", "operators"),
    [
        ("_0 = torch.add(x, self.w)", {"aten::add"}),
        ("w = self.w", set()),
        ("sub = self.sub\n    _1 = (sub).forward(x, )", set()),
        ('_0 = getattr(self, "0")', set()),
        ("_0 = ops.prim.NumToTensor(torch.size(x, 0))", {"prim::NumToTensor", "aten::size"}),
        ("_0 = annotate(List[int], [-1, 2])", set()),
        ("_0, _1 = torch.split(x, 2)", {"aten::split"}),
        ("_0 = int(x)", set()),
        ("_0 = torch.sum(x, dtype=6)", {"aten::sum"}),
        ("_0 = torch.mul(x, CONSTANTS.c0)", {"aten::mul"}),
    ],
)
def test_what_tracing_emits_is_read_without_a_finding(text: str, operators: set[str]) -> None:
    assert line(text) == (operators, set())


@pytest.mark.parametrize(
    ("text", "operator"),
    [
        ('torch.save(x, "/tmp/x")', "aten::save"),
        ('x.save("/tmp/x")', "aten::save"),
        ('self.w.save("/tmp/x")', "aten::save"),
        ('torch.add(x, 1).save("/tmp/x")', "aten::save"),
        ('ops.aten.save(x, "/tmp/x")', "aten::save"),
        ("ops.evil.run(x)", "evil::run"),
        ("CONSTANTS.c0.save(x)", "aten::save"),
        ("CONSTANTS.c0(x)", "aten::c0"),
        ("print(x)", "prim::print"),
        ("f(x)", "prim::f"),
        ("(x)(x)", "prim::x"),
    ],
)
def test_every_call_of_an_operator_is_counted(text: str, operator: str) -> None:
    assert operator in line(text)[0]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("f = torch.save", "TS-NAMESPACE-AS-VALUE"),
        ("t = torch", "TS-NAMESPACE-AS-VALUE"),
        ("o = ops.aten", "TS-NAMESPACE-AS-VALUE"),
        ("torch.ops.aten.save(x)", "TS-NAMESPACE-AS-VALUE"),
        ("__torch__.helper(x)", "TS-NAMESPACE-AS-VALUE"),
        ('getattr(torch, "save")(x)', "TS-STRUCTURE"),
        ('getattr(x, "random_")', "TS-ATTRIBUTE"),
        ("f = x.random_", "TS-ATTRIBUTE"),
        ("self.w = x", "TS-ATTRIBUTE"),
        ("int = x", "TS-SHADOWING"),
        ("CONSTANTS = x", "TS-SHADOWING"),
        ("c = CONSTANTS", "TS-NAMESPACE-AS-VALUE"),
        ("c = CONSTANTS.c", "TS-ATTRIBUTE"),
        ("c = CONSTANTS.c0.data", "TS-ATTRIBUTE"),
        ("CONSTANTS.c0 = x", "TS-ATTRIBUTE"),
        ("torch = x", "TS-SHADOWING"),
        ("torch.add(x, 1)(x)", "TS-STRUCTURE"),
        ("while bool(x):\n      x = torch.add(x, 1)", "TS-SYNTAX"),
        ("for i in [1]:\n      x = torch.add(x, 1)", "TS-SYNTAX"),
        ("y = [torch.save for _ in [1]]", "TS-SYNTAX"),
        ("y = lambda: 1", "TS-SYNTAX"),
        ("import os", "TS-SYNTAX"),
        ("raise AssertionError", "TS-SYNTAX"),
        ("y : int = 1", "TS-STRUCTURE"),
        ("# a remark", "TS-CODE-TEXT"),
        ('"""text"""', "TS-CODE-TEXT"),
        ("y = 'a\\n'", "TS-CODE-TEXT"),
        ("x = x; torch.save(x)", "TS-CODE-TEXT"),
        ("x = x\r    torch.save(x)", "TS-CODE-TEXT"),
        ("x = x\ttorch", "TS-CODE-TEXT"),
        ("x = \u00e4", "TS-CODE-TEXT"),
        ("x = (", "TS-MALFORMED"),
        ("x = " + "(" * 300, "TS-MALFORMED"),
    ],
)
def test_what_two_readers_could_take_differently_is_a_finding(text: str, finding: str) -> None:
    assert finding in line(text)[1]


@pytest.mark.parametrize(
    ("code", "finding"),
    [
        ("# coding: raw_unicode_escape\n" + HEAD, "TS-CODE-TEXT"),
        ("def helper(x):\n  return x\n", "TS-STRUCTURE"),
        ("class I(Interface):\n  def forward(self, x):\n    pass\n", "TS-STRUCTURE"),
        ("class N(NamedTuple):\n  w : Tensor\n", "TS-STRUCTURE"),
        ("class M:\n  w : Tensor\n", "TS-STRUCTURE"),
        (HEAD + "  def __setstate__(self, state: Tensor) -> None:\n    pass\n", "TS-METHOD"),
        (HEAD + "  def helper(self, x: Tensor) -> Tensor:\n    return x\n", "TS-METHOD"),
        (HEAD + "  def forward(self, x: Tensor = 1) -> Tensor:\n    return x\n", "TS-STRUCTURE"),
        (HEAD + "  def forward(self, torch: Tensor) -> Tensor:\n    return torch\n", "TS-SHADOWING"),
        (HEAD + "  def forward(self, x: torch.Device) -> Tensor:\n    return x\n", "TS-STRUCTURE"),
        (HEAD + "  def forward(self, x: List(Tensor)) -> Tensor:\n    return x\n", "TS-STRUCTURE"),
        (HEAD + '  def forward(self, x: "Tensor") -> Tensor:\n    return x\n', "TS-STRUCTURE"),
        (HEAD + "  @torch.jit.ignore\n  def forward(self, x: Tensor) -> Tensor:\n    return x\n", "TS-METHOD"),
        (HEAD + "  w = torch.ones([1])\n", "TS-STRUCTURE"),
    ],
)
def test_classes_are_plain_modules_with_forward_alone(code: str, finding: str) -> None:
    assert finding in seen(code)[1]


def test_an_archive_is_one_archive_with_one_top_folder() -> None:
    plain = archive(HEAD)
    out = io.BytesIO(plain)
    with zipfile.ZipFile(out, "a") as target:
        target.writestr("other/data/0", b"")
    for data, detail in ((plain + b"x", "not one plain archive"), (out.getvalue(), "do not share one top folder")):
        findings = torchscript.inventory(data).to_wire()["findings"]
        assert [f["id"] for f in findings] == ["TS-MALFORMED"]
        assert detail in findings[0]["detail"]


def test_a_custom_class_in_a_type_is_an_operator() -> None:
    assert seen(HEAD + "  c : __torch__.torch.classes.evil.Thing\n")[0] == {"class:evil::Thing"}


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("bytecode.pkl", "TS-UNEXPECTED-MEMBER"),
        ("extra/x.so", "TS-UNEXPECTED-MEMBER"),
        ("code/other.py", "TS-UNEXPECTED-MEMBER"),
        ("code/__torch__.py.debug_pkl", "TS-UNEXPECTED-MEMBER"),
    ],
)
def test_a_member_that_is_not_expected_is_a_finding(name: str, finding: str) -> None:
    assert seen(HEAD, **{name: b""})[1] == {finding}


@pytest.mark.parametrize(
    ("pickle", "operators", "findings"),
    [
        (PICKLE, set(), set()),
        (b"\x80\x02cos\nsystem\n.", {"pickle::os.system"}, set()),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n.", {"pickle::torch._utils._rebuild_tensor_v2"}, set()),
        (b"\x80\x02c__torch__.torch.classes.evil\nThing\n.", {"class:evil::Thing"}, set()),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", set(), {"TS-PICKLE-OPCODE"}),
        (b"(ios\nsystem\n.", set(), {"TS-PICKLE-OPCODE"}),
        (b"\x80\x02", set(), {"TS-MALFORMED"}),
        (b"", set(), {"TS-MALFORMED"}),
    ],
)
def test_the_globals_of_pickles_are_operators(pickle: bytes, operators: set[str], findings: set[str]) -> None:
    assert seen(HEAD, pickle=pickle) == (operators, findings)
