"""TorchScript archives and exported programs that run something when they are loaded or called."""

import io
import json
import sys
import zipfile

import torch
from pickled import FIRES, saved
from sample import MARK, MARKER, STAMP, Sample

from tools import export_to_pt2
from tools.script_model import normalise


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x + self.w


def edited(data, change):
    """Return an archive after a change of its members, which are by their name in it without the top folder."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        top = archive.namelist()[0].partition("/")[0]
        members = {i.filename.partition("/")[2]: archive.read(i) for i in archive.infolist()}
    change(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"{top}/{name}", STAMP), content)
    return out.getvalue()


def script_call(path):
    return torch.jit.load(str(path))(torch.ones(3))


SAVE = f'torch.save(x, "{MARKER}")'
LINES = {
    "saves": SAVE,
    "saves in the long spelling": f'ops.aten.save(x, "{MARKER}")',
    "saves as a method": f'(x).save("{MARKER}")',
    "maps a file": f'y = torch.from_file("{MARKER}", True, 8)',
    "maps a file in the long spelling": f'y = ops.aten.from_file("{MARKER}", True, 8)',
    "an operator as a value": f'f = torch.from_file\n    y = f("{MARKER}", True, 8)',
    "an operator by getattr": f'y = getattr(torch, "from_file")("{MARKER}", True, 8)',
    "a namespace by getattr": f'y = getattr(ops.aten, "from_file")("{MARKER}", True, 8)',
    "in a branch": f'if bool(torch.gt(torch.sum(x), 0)):\n      torch.save(x, "{MARKER}")\n    else:\n      pass',
    "in a loop": f'for i in range(1):\n      torch.save(x, "{MARKER}")',
    "an operator that there is not": "y = ops.evil.run(x)",
    "a loop without end": "while True:\n      x = torch.add(x, 1)",
    "prints": 'print("x")',
    "warns": 'torch.warn("x")',
    "behind a carriage return": f"y = x\r    {SAVE}",
    "behind a semicolon": f"y = x; {SAVE}",
}


def scripts():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(Model(), torch.ones(3)), buffer)
    plain = normalise(buffer.getvalue())
    with zipfile.ZipFile(io.BytesIO(plain)) as archive:
        (place,) = [n.partition("/")[2] for n in archive.namelist() if n.endswith(".py")]

    def with_line(line):
        def change(members):
            head, mark, tail = members[place].decode().partition("Tensor) -> Tensor:\n")
            members[place] = f"{head}{mark}    {line}\n{tail}".encode()

        return change

    for name, line in LINES.items():
        yield Sample("torchscript", name, edited(plain, with_line(line)), script_call, ".pt")
    yield Sample("torchscript", "as torch writes it, with its records", buffer.getvalue(), None, ".pt")
    restoring = torch.jit.script(Restoring())
    buffer = io.BytesIO()
    torch.jit.save(restoring, buffer)
    restored = normalise(buffer.getvalue()).replace(b"/tmp/nobody", MARKER.encode())
    yield Sample("torchscript", "runs while it is loaded", fixed(restored), torch.jit.load_path, ".pt")
    for name, member in (("another program", "bytecode.pkl"), ("a library", "extra/x.so")):
        data = edited(plain, lambda members, m=member: members.update({m: b"\x7fELF"}))
        yield Sample("torchscript", name, data, None, ".pt")


class Restoring(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.ones(3)

    @torch.jit.export
    def __getstate__(self):
        return self.w

    @torch.jit.export
    def __setstate__(self, w: torch.Tensor):
        self.w = w
        y = torch.from_file("/tmp/nobody", True, 8)
        self.training = bool(y.numel() > 100)

    def forward(self, x):
        return x


def fixed(data):
    """Put right the checksums of an archive whose members were edited in place."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as target:
        for item in archive.infolist():
            archive.getinfo(item.filename).CRC = None
            with archive.open(item) as member:
                member._expected_crc = None
                target.writestr(zipfile.ZipInfo(item.filename, STAMP), member.read())
    return out.getvalue()


torch.jit.load_path = lambda path: torch.jit.load(str(path))


def export_load(path):
    program = torch.export.load(io.BytesIO(path.read_bytes()))
    return program.module()(torch.ones(3))


PROGRAM, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
SAMPLES = "data/sample_inputs/model.pt"


def exports():
    buffer = io.BytesIO()
    sizes = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(Sum(), (torch.ones(3),), dynamic_shapes=sizes), buffer)
    plain = export_to_pt2.normalise(buffer.getvalue())

    def with_program(change):
        def edit(members):
            document = json.loads(members[PROGRAM])
            change(document)
            members[PROGRAM] = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

        return edited(plain, edit)

    def expression(document):
        for value in document["graph_module"]["graph"]["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = f"Symbol('s77') if {MARK} else 1"

    def ranges(document):
        document["range_constraints"][f"Symbol('s77') if {MARK} else 1"] = {"min_val": 0, "max_val": 9}

    def node(**values):
        def change(document):
            document["graph_module"]["graph"]["nodes"][0].update(values)

        return change

    def tree(document):
        spec = {"type": "builtins.dict", "context": '[{"__enum__": true, "fqn": "evil:E", "name": "A"}]'}
        call = document["graph_module"]["module_call_graph"][0]["signature"]
        call["out_spec"] = json.dumps(
            [1, spec | {"children_spec": [{"type": None, "context": None, "children_spec": []}]}]
        )

    def key(document):
        leaf = {"type": None, "context": None, "children_spec": []}
        empty = {"type": "builtins.tuple", "context": "null", "children_spec": []}
        arguments = {"type": "builtins.tuple", "context": "null", "children_spec": [leaf]}
        keys = {
            "type": "builtins.dict",
            "context": json.dumps([f'k, f:exec(bytes.fromhex("{MARK.encode().hex()}"))']),
            "children_spec": [empty],
        }
        call = document["graph_module"]["module_call_graph"][0]["signature"]
        root = {"type": "builtins.tuple", "context": "null", "children_spec": [arguments, keys]}
        call.update(forward_arg_names=None, in_spec=json.dumps([1, root]))

    def pickled_weight(members):
        document = json.loads(members[WEIGHTS])
        for meta in document["config"].values():
            meta["use_pickle"] = True
        members[WEIGHTS] = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        for name in list(members):
            if name.startswith("data/weights/weight_"):
                members[name] = saved_call()

    def native(members):
        members["data/aotinductor/model/model.so"] = b"\x7fELF"

    for name, data in (
        ("sample inputs", edited(plain, lambda m: m.update({SAMPLES: saved_call()}))),
        ("a weight as a pickle", edited(plain, pickled_weight)),
        ("a size that is evaluated", with_program(expression)),
        ("a range that is evaluated", with_program(ranges)),
        ("guards", with_program(lambda d: d.update(guards_code=[MARK]))),
        ("a tree that imports", with_program(tree)),
        ("an argument's name that is code", with_program(key)),
        ("a weight that nothing names", edited(plain, lambda m: m.update({"data/weights/weight_9": b"secret"}))),
        ("a target in Python", with_program(node(target="torch.os.mkdir"))),
        ("a target that there is not", with_program(node(target="torch.ops.evil.run.default"))),
        ("an operator that writes", with_program(node(target="torch.ops.aten.from_file.default"))),
        (
            "an operator as an argument",
            with_program(
                lambda d: d["graph_module"]["graph"]["nodes"][0]["inputs"][0].update(
                    arg={"as_operator": "torch.os.mkdir"}
                )
            ),
        ),
        ("metadata", with_program(node(metadata={"stack_trace": "/home"}))),
        ("a custom object", with_program(lambda d: d["graph_module"]["graph"].update(custom_obj_values={"o": {}}))),
        ("compiled", edited(plain, native)),
        ("an opaque object", edited(plain, lambda m: m.update({"data/constants/opaque_obj_0": FIRES}))),
        ("as torch writes it, with its samples", buffer.getvalue()),
        ("no program", edited(plain, lambda m: m.pop(PROGRAM))),
        ("another spelling", edited(plain, lambda m: m.update({PROGRAM: b" " + m[PROGRAM]}))),
    ):
        yield Sample("pt2", name, data, export_load, ".pt2")


class Sum(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.w


class _Call:
    def __reduce__(self):
        import os

        return os.mkdir, (MARKER,)


def saved_call():
    return saved(_Call())


def samples():
    sys.modules["evil"] = None  # nothing that a tree could import
    yield from scripts()
    yield from exports()
