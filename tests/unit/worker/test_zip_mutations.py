"""Mutated archives: whatever is accepted, Python's zipfile reads as the same members and bytes.

Torch's half of this is in `tests/integration/test_mutations.py`, where there is a torch.
"""

import io
import random
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

read_members: Any = import_module("worker.inventory.zip_layout").read_members
sys.path.insert(0, str(Path(__file__).parents[2] / "data/scripts"))
mutations: Any = import_module("mutations")

COUNT = 10_000


def archive(method: int, *, wide: bool) -> bytes:
    out = io.BytesIO()
    members = (("m/data.pkl", b"\x80\x02}q\x00."), ("m/data/0", bytes(range(64))), ("m/code/a.py", b"x = 1\n"))
    with zipfile.ZipFile(out, "w", method) as file:
        for name, content in members:
            with file.open(name, "w", force_zip64=wide) as member:
                member.write(content)
    return out.getvalue()


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_is_accepted_zipfile_reads_the_same(method: int, wide: bool) -> None:
    dice, accepted = random.Random(method + wide), 0
    plain = archive(method, wide=wide)
    for _ in range(COUNT // 4):
        data = mutations.mutate(dice, plain)
        try:
            found = read_members(data, unpacked_bytes_max=1 << 20, deflated=method != zipfile.ZIP_STORED)
        except ValueError:
            continue
        accepted += 1
        members = {name: bytes(member.head) for name, member in found.items()}
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            assert file.namelist() == list(members)
            assert {name: file.read(name) for name in members} == members
    assert accepted > 50  # mutations of bytes that no reader uses are among them
