"""Takes each check out of the inventories that need the image's libraries, one at a time, and looks at every sample.

A check is a finding that is reported, or a ValueError that becomes one. Reports those without which no sample's
findings change: no test would notice that they are gone.
"""

import ast
import importlib
import json
import sys
from pathlib import Path

import data
import onnx_models
from worker.job import current

MODULES = {
    "worker.inventory.onnx_model": (onnx_models.samples, {"onnx": ["inventory"]}),
    "worker.inventory.tables": (data.tables, {"arrow": ["arrow_inventory"], "parquet": ["parquet_inventory"]}),
    "worker.inventory.arrays": (data.arrays, {"array": ["npy_inventory", "npz_inventory"]}),
}


def is_check(node):
    if isinstance(node, ast.Raise):
        return isinstance(node.exc, ast.Call)
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "find"


class Without(ast.NodeTransformer):
    def __init__(self, line):
        self.line = line

    def visit(self, node):
        if is_check(node) and node.lineno == self.line:
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)


def findings(module, samples, readers):
    seen = {}
    for sample in samples:
        for name in readers[sample.kind]:
            try:
                wire = getattr(module, name)(sample.data).to_wire()
                seen[sample.kind, sample.name, name] = sorted(
                    (f["id"], f["place"], f["detail"]) for f in wire["findings"]
                )
            except Exception as err:
                seen[sample.kind, sample.name, name] = [type(err).__name__]
    return seen


survivors, tried = [], 0
for name, (make, readers) in MODULES.items():
    module, samples = importlib.import_module(name), list(make())
    source = Path(module.__file__).read_text()
    plain = findings(module, samples, readers)
    for line in sorted({node.lineno for node in ast.walk(ast.parse(source)) if is_check(node)}):
        tree = ast.fix_missing_locations(Without(line).visit(ast.parse(source)))
        mutant = type(sys)(name)
        sys.modules["mutant"] = mutant
        mutant.__dict__.update(__name__="mutant", __file__=module.__file__)
        exec(compile(tree, module.__file__, "exec"), mutant.__dict__)
        tried += 1
        if findings(mutant, samples, readers) == plain:
            survivors.append(f"{name}:{line}: {source.splitlines()[line - 1].strip()}")
current().output("mutants.json", json.dumps({"tried": tried, "survivors": survivors}))
