"""Checkpoints: signed notes over a log's size and root (C2SP tlog-checkpoint and signed-note), with one signature.

A log may have put lines of its own below the root, as Rekor does, and others may have signed as well: those lines are
kept, because they are signed; other signatures are not taken up.
"""

import re

from signing.encoding import decode_base64, encode_base64
from signing.value import Value

_HEAD = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n((?:[^\n]+\n)*)")
_SIGNATURE = re.compile("\u2014 ([^ \n]+) ([A-Za-z0-9+/=]+)\n")
_KEY_HINT_BYTES = 4


class Checkpoint(Value):
    """A parsed checkpoint.

    Attributes:
        origin: The log's name.
        size: Leaves in the tree.
        root: Its root hash.
        text: What is signed.
        key_hint: The first four bytes of the key's id.
        signature: The log's signature.
    """

    origin: str
    size: int
    root: bytes
    text: str
    key_hint: bytes
    signature: bytes

    def to_text(self) -> str:
        """Return the note."""
        return signed_note(self.text, key_name(self.origin), self.key_hint, self.signature)


def key_name(origin: str) -> str:
    """Return the name that a log signs under: its origin, up to the tree id that Rekor appends after a space."""
    return origin.partition(" ")[0]


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """Return what a log signs over its head."""
    return f"{origin}\n{size}\n{encode_base64(root)}\n"


def signed_note(text: str, name: str, key_hint: bytes, signature: bytes) -> str:
    """Return a note with one signature."""
    return f"{text}\n\u2014 {name} {encode_base64(key_hint + signature)}\n"


def parse_checkpoint(note: str) -> Checkpoint:
    """Parse a checkpoint that has exactly one signature.

    Raises:
        ValueError: It is none, or in another form than `to_text` gives.
    """
    (checkpoint,) = parse_checkpoints(note)
    if checkpoint.to_text() != note:
        raise ValueError("checkpoint is not in the one form that it has")
    return checkpoint


def parse_checkpoints(note: str) -> list[Checkpoint]:
    """Parse a checkpoint; one item for each signature.

    Raises:
        ValueError: It is none.
    """
    text, blank, signatures = note.partition("\n\n")
    text += "\n"
    head = _HEAD.fullmatch(text)
    found = [_SIGNATURE.fullmatch(line) for line in signatures.splitlines(keepends=True)]
    if head is None or not blank or not found:
        raise ValueError("checkpoint is malformed")
    items = []
    for match in found:
        if match is None:
            raise ValueError("checkpoint's signature is malformed")
        signature = decode_base64(match[2])
        if len(signature) <= _KEY_HINT_BYTES:
            raise ValueError("checkpoint's signature is too short")
        items.append(
            Checkpoint(
                origin=head[1],
                size=int(head[2]),
                root=decode_base64(head[3]),
                text=text,
                key_hint=signature[:_KEY_HINT_BYTES],
                signature=signature[_KEY_HINT_BYTES:],
            )
        )
    return items
