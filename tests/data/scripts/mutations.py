"""Mutates archives, seeded: bits, fields of headers and records, bytes put in, left out and repeated."""

import random

_MARKS = (b"PK\x01\x02", b"PK\x05\x06", b"PK\x03\x04")


def mutate(dice: random.Random, data: bytes) -> bytes:
    """Return an archive with one to three changes."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        place, kind = dice.randrange(len(changed)), dice.randrange(8)
        if kind < 3:
            changed[place] ^= 1 << dice.randrange(8)
        elif kind == 3:
            changed[place] = dice.choice((0, 255, 1, changed[place - 1]))
        elif kind == 4:
            _set_field(dice, changed)
        elif kind == 5:
            changed[place:place] = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 5)))
        elif kind == 6:
            del changed[place : place + dice.randrange(1, 5)]
        else:
            start = dice.randrange(len(changed))
            changed[place:place] = changed[start : start + dice.randrange(1, 40)]
    return bytes(changed)


def _set_field(dice: random.Random, changed: bytearray) -> None:
    """Give two or four bytes of some header a value that means something."""
    marks = [at for at in range(len(changed) - 4) if changed[at : at + 4] in _MARKS]
    if not marks:
        return
    at, width = dice.choice(marks) + 4 + dice.randrange(26), dice.choice((1, 2, 4))
    value = dice.choice((0, 1, 0xFFFF, 0xFFFFFFFF, len(changed), dice.randrange(1 << 32)))
    if at + width <= len(changed):
        changed[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
