"""Pickles, alone and in torch's checkpoints: every global that one would import, by exact module and name.

Disassembled, never loaded. A module is no safe prefix: `torch.serialization` reaches `os.system` by a dotted name
(measured 2026-11), so each pair counts for itself. A name that is put together while the pickle runs cannot be read
statically and is a finding.
"""

import re

from worker.inventory.opcodes import instructions
from worker.inventory.report import Data, Inventory
from worker.inventory.zip_layout import read_members

_UNPACKED_BYTES_MAX = 8 << 30
_OPCODES_MAX = 2_000_000
_MEMBERS = re.compile(r"data\.pkl|version|byteorder|\.format_version|\.storage_alignment|data/\d+")
_STRINGS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING")
_MEMOS = ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT")
_GETS = ("GET", "BINGET", "LONG_BINGET")


def inventory(data: Data) -> Inventory:
    """List the globals of a pickle that stands alone."""
    report = Inventory("pickle")
    _disassemble(report, data, "file")
    return report


def checkpoint_inventory(data: Data) -> Inventory:
    """List the globals of a checkpoint: a ZIP with one pickle and the tensors' bytes.

    Taken in the form that `tools.script_model.normalise` leaves: torch itself writes data descriptors and padding.
    """
    report = Inventory("checkpoint")
    try:
        members = read_members(data, unpacked_bytes_max=_UNPACKED_BYTES_MAX, deflated=False)
    except ValueError as err:
        report.find("CKPT-MALFORMED", "file", f"not one plain archive: {err}")
        return report
    if len({name.partition("/")[0] for name in members}) != 1:
        report.find("CKPT-MALFORMED", "file", "members do not share one top folder")
    for name, member in members.items():
        inside = name.partition("/")[2]
        if not _MEMBERS.fullmatch(inside):
            report.find("CKPT-UNEXPECTED-MEMBER", inside, "not a member that a checkpoint needs")
        elif inside == "data.pkl":
            _disassemble(report, member.head, inside)
    return report


def _disassemble(report: Inventory, data: Data, place: str) -> None:
    """Walk through the instructions with as much of a stack as it takes to see the names that they use.

    `STACK_GLOBAL` takes the two strings on top of the stack. They are known where they were pushed as such right
    before, or got from the memo by an index that a string was put under; else the name is not readable.
    """
    pushed: list[str | None] = []
    memo: dict[int, str | None] = {}
    try:
        for count, (opcode, argument, position) in enumerate(instructions(data)):
            where = f"{place}@{position}"
            if count > _OPCODES_MAX:
                report.find("PICKLE-LENGTH", where, f"more than {_OPCODES_MAX} instructions")
                return
            name = opcode.name
            if name in ("PROTO", "FRAME"):
                continue
            if name in ("GLOBAL", "INST"):
                module, _, attribute = str(argument).partition(" ")
                report.use("pickle", f"{module}.{attribute}", where)
                pushed.append(None)
            elif name == "STACK_GLOBAL":
                module_, attribute_ = (pushed[-2], pushed[-1]) if len(pushed) > 1 else (None, None)
                if module_ is None or attribute_ is None:
                    report.find("PICKLE-HIDDEN-NAME", where, "imports what is put together while it runs")
                else:
                    report.use("pickle", f"{module_}.{attribute_}", where)
                pushed.append(None)
            elif name in ("EXT1", "EXT2", "EXT4", "PERSID"):
                report.find("PICKLE-OPCODE", where, f"{name}: what it means is not in the file")
                pushed.append(None)
            elif name in _STRINGS:
                pushed.append(str(argument))
            elif name in _MEMOS:
                index = len(memo) if name == "MEMOIZE" else int(str(argument))
                memo[index] = pushed[-1] if pushed else None
            elif name in _GETS:
                pushed.append(memo.get(int(str(argument))))
            else:
                pushed.append(None)
            del pushed[:-4]
        if position is None or position + 1 != len(data):
            report.find("PICKLE-TAIL", where, "bytes behind the end")
    except (ValueError, IndexError, KeyError, OverflowError) as err:
        report.find("PICKLE-MALFORMED", place, f"not a readable pickle: {err}")
