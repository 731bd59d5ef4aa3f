"""Puts a line of its parameters into the code of a saved TorchScript, to reach an operator by another spelling."""

import io
import zipfile

import torch
from worker.job import current

from tools.script_model import normalise


class Honest(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.neg(x)


line = current().params["line"].encode()
buffer, out = io.BytesIO(), io.BytesIO()
torch.jit.save(torch.jit.script(Honest()), buffer)
with zipfile.ZipFile(io.BytesIO(normalise(buffer.getvalue()))) as source, zipfile.ZipFile(out, "w") as target:
    for item in source.infolist():
        data = source.read(item)
        if item.filename.endswith(".py"):
            data = data.replace(b"    return torch.neg(x)", b"    " + line + b"\n    return torch.neg(x)")
            assert line in data
        target.writestr(item, data)
current().output("model.pt", out.getvalue(), role="model")
