"""Looks at all models and node cases of the onnx package, in the form that `tools.export_to_onnx.strip` leaves.

The models come as an input, out of the package's wheel; the image leaves them out.
"""

import io
import json
import zipfile

from onnx.backend.test.case.node import collect_testcases
from worker.inventory.onnx_model import inventory
from worker.job import current

from tools.export_to_onnx import strip

job, seen = current(), {"models": {}, "cases": {}}


def look(kind, name, data):
    wire = inventory(strip(data)).to_wire()
    for used in wire["operators"]:
        used["places"] = []
    wire["facts"] = {key: wire["facts"][key] for key in ("ir_version", "opset_imports")}
    seen[kind][name] = wire


with zipfile.ZipFile(job.inputs["models"]) as archive:
    for name in archive.namelist():
        look("models", name, archive.read(name))
for case in collect_testcases(None):
    look("cases", case.name, case.model.SerializeToString())
    job.progress(cases=float(len(seen["cases"])))
out = io.BytesIO(json.dumps(seen).encode())
job.output("seen.json", out.getvalue())
