"""The transparency log on disk: proofs at any size, and what is left after a writer died or somebody tampered."""

import contextlib
import os
from pathlib import Path

import pytest

from signing import ecdsa, merkle
from signing.errors import TrustDomainError
from signing.keys import new_key
from signing.log import DiskLog, Head
from signing.note import checkpoint_text, parse_checkpoint, signed_note

KEY = new_key()


def sign_head(head: Head) -> str:
    text = checkpoint_text("log.invalid", head.size, head.root)
    return signed_note(text, "log.invalid", b"hint", ecdsa.sign(KEY, text.encode()))


def append(log: DiskLog, count: int, *, time: int = 1, each: bool = False) -> None:
    bodies = [b"entry %d" % i for i in range(count)]
    for batch in [[b] for b in bodies] if each else [bodies]:
        log.append(batch, time=time, sign_head=sign_head)


def new_log(folder: Path) -> DiskLog:
    log = DiskLog(folder, KEY.public_key())
    log.create(sign_head=sign_head)
    return log


@pytest.fixture
def log(tmp_path: Path) -> DiskLog:
    return new_log(tmp_path / "log")


def leaves(count: int) -> list[bytes]:
    return [merkle.leaf_hash(b"entry %d" % i) for i in range(count)]


@pytest.mark.parametrize("size", [*range(1, 20), 31, 32, 33, 100])
def test_one_at_a_time_or_all_at_once_gives_the_tree_that_memory_gives(tmp_path: Path, size: int) -> None:
    wanted = merkle.root_hash(merkle.reader(leaves(size)), size)
    for each in (True, False):
        log = new_log(tmp_path / str(each))
        append(log, size, each=each)
        assert (log.head().size, log.head().root) == (size, wanted)
        assert log.leaves(size) == leaves(size)


def test_every_entry_of_a_batch_has_its_proof(log: DiskLog) -> None:
    append(log, 5)
    bodies = [b"more %d" % i for i in range(6)]
    made = log.append(bodies, time=1, sign_head=sign_head)
    assert (made.first, made.head.size, parse_checkpoint(made.checkpoint).root) == (5, 11, made.head.root)
    for index, (body, proof) in enumerate(zip(bodies, made.proofs, strict=True), made.first):
        leaf = merkle.leaf_hash(body)
        assert merkle.root_from_proof(leaf, index=index, size=11, proof=proof) == made.head.root


def test_a_log_is_consistent_with_each_of_its_earlier_heads(log: DiskLog) -> None:
    heads = []
    for _ in range(9):
        append(log, 1)
        heads.append(log.head())
    for old in heads:
        proof = log.consistency(old.size)
        roots = merkle.roots_from_consistency(proof, old=old.size, old_root=old.root, new=9)
        assert roots == (old.root, heads[-1].root)


@pytest.mark.parametrize("torn", [b"x", b"x" * 31, b"x" * 32, b"x" * 33, b"x" * 1000])
def test_hashes_that_a_dying_writer_left_are_dropped(log: DiskLog, tmp_path: Path, torn: bytes) -> None:
    """Nothing was signed over them: what counts is that the signed head is there, and that the log goes on."""
    append(log, 7)
    with (tmp_path / "log/tree").open("ab") as tree:
        tree.write(torn)
    assert (log.head().size, log.leaves(7)) == (7, leaves(7))
    append(log, 1)
    assert log.head().size == 8


@pytest.mark.parametrize("torn", [b'{"body":"', b'{"body":"","index":7,"time":1}\n', b"\n", b"x" * 70_000])
def test_entries_that_a_dying_writer_left_are_dropped(log: DiskLog, tmp_path: Path, torn: bytes) -> None:
    append(log, 7)
    entries = tmp_path / "log/entries"
    whole = entries.read_bytes()
    with entries.open("ab") as file:
        file.write(torn)
    assert log.head().size == 7
    assert entries.read_bytes() == whole
    append(log, 1)
    assert (log.head().size, len(entries.read_bytes().splitlines())) == (8, 8)


@pytest.mark.parametrize("step", range(1, 6))
def test_a_writer_that_dies_anywhere_leaves_a_log_that_goes_on(
    log: DiskLog, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """At each fsync in turn. The fourth is after the checkpoint has its name, which is what commits."""
    append(log, 3, each=True)
    kept, fsync, calls = log.leaves(3), os.fsync, []

    def die(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == step:
            raise KeyboardInterrupt
        fsync(descriptor)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(os, "fsync", die)
        log.append([b"a", b"b"], time=2, sign_head=sign_head)
    before = log.head().size
    assert (len(calls), before) == (min(step, 4), 5 if step > 3 else 3)
    append(log, 1, time=2)
    assert (log.head().size, log.leaves(3)) == (before + 1, kept)


def test_a_log_that_was_rolled_back_is_not_used(log: DiskLog, tmp_path: Path) -> None:
    append(log, 5, each=True)
    tree = tmp_path / "log/tree"
    os.truncate(tree, tree.stat().st_size - 32)
    with pytest.raises(TrustDomainError, match="rolled back"):
        log.head()


def test_a_log_that_was_rewritten_is_not_used(log: DiskLog, tmp_path: Path) -> None:
    append(log, 5, each=True)
    tree = tmp_path / "log/tree"
    data = bytearray(tree.read_bytes())
    for position in (0, len(data) - 1):
        changed = bytearray(data)
        changed[position] ^= 1
        tree.write_bytes(changed)
        with pytest.raises(TrustDomainError, match="rewritten"):
            log.head() if position else log.leaves(1)  # a leaf is looked at when it is given away
    other = new_log(tmp_path / "other")
    other.append([b"forged %d" % i for i in range(5)], time=1, sign_head=sign_head)
    tree.write_bytes((tmp_path / "other/tree").read_bytes())
    with pytest.raises(TrustDomainError, match="rewritten"):
        log.head()


def test_a_log_without_its_checkpoint_is_not_used(log: DiskLog, tmp_path: Path) -> None:
    append(log, 5)
    (tmp_path / "log/checkpoint").unlink()
    with pytest.raises(TrustDomainError, match="no checkpoint"):
        log.head()
    with pytest.raises(TrustDomainError, match="cannot use the log"):
        DiskLog(tmp_path / "absent", KEY.public_key()).head()


def test_a_log_whose_checkpoint_another_key_signed_is_not_used(log: DiskLog, tmp_path: Path) -> None:
    append(log, 5)
    assert DiskLog(tmp_path / "log", KEY.public_key()).head().size == 5
    with pytest.raises(TrustDomainError, match="not signed by its key"):
        DiskLog(tmp_path / "log", new_key().public_key()).head()


@pytest.mark.parametrize(
    "line", [b"5\n", b"\xff\n", b"{}\n", b'{"index":1e999}\n', b'{"body":"","index":1,"time":1}\n', b""]
)
def test_an_entry_that_is_none_is_found(log: DiskLog, tmp_path: Path, line: bytes) -> None:
    append(log, 1)
    (tmp_path / "log/entries").write_bytes(line)
    with pytest.raises(TrustDomainError, match="entries are damaged"):
        log.head()
    (tmp_path / "log/entries").unlink()
    for use in (log.head, log.last_time, lambda: log.time_of(0), lambda: append(log, 1)):
        with pytest.raises(TrustDomainError):
            use()


def test_a_log_with_a_damaged_checkpoint_or_entries_is_not_used(log: DiskLog, tmp_path: Path) -> None:
    append(log, 5, each=True)
    checkpoint = (tmp_path / "log/checkpoint").read_bytes()
    (tmp_path / "log/checkpoint").write_bytes(b"x")
    with pytest.raises(TrustDomainError, match="damaged"):
        log.head()
    (tmp_path / "log/checkpoint").write_bytes(checkpoint)
    entries = tmp_path / "log/entries"
    entries.write_bytes(entries.read_bytes()[:-40])
    with pytest.raises(TrustDomainError, match="entries are damaged"):
        log.head()


@pytest.mark.parametrize(("back", "fits"), [(0, True), (1, True), (60, True), (61, False)])
def test_times_never_go_back(log: DiskLog, back: int, fits: bool) -> None:
    """Of two that append at the same time, one took the time first and the lock last."""
    append(log, 1, time=100)
    with contextlib.nullcontext() if fits else pytest.raises(TrustDomainError, match="61 s before"):
        made = log.append([b"x"], time=100 - back, sign_head=sign_head)
        assert (made.time, log.last_time()) == (100, 100)
    assert log.append([b"y"], time=101, sign_head=sign_head).time == 101


def test_what_a_log_does_not_have_cannot_be_asked_of_it(log: DiskLog) -> None:
    append(log, 2)
    assert log.time_of(1) == 1
    with pytest.raises(TrustDomainError, match="no entry 2"):
        log.time_of(2)
    with pytest.raises(TrustDomainError, match="2 entries"):
        log.leaves(3)
    for old in (0, 3):
        with pytest.raises(ValueError, match="older tree"):
            log.consistency(old)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("log.invalid\n5\n", "log.invalid\n05\n", "malformed"),
        ("\n\n", "\n", "malformed"),
        ("\u2014 log.invalid ", "\u2014 other.invalid ", "one form"),
        ("\u2014 log.invalid ", "log.invalid ", "signature is malformed"),
    ],
)
def test_a_checkpoint_has_one_form(log: DiskLog, old: str, new: str, why: str) -> None:
    append(log, 5)
    note = log.checkpoint()
    assert (parse_checkpoint(note).size, old in note) == (5, True)
    with pytest.raises(ValueError, match=why):
        parse_checkpoint(note.replace(old, new, 1))


def test_a_checkpoint_without_signature_or_with_half_a_hint_is_refused(log: DiskLog) -> None:
    text = log.checkpoint().partition("\n\n")[0]
    with pytest.raises(ValueError, match="malformed"):
        parse_checkpoint(f"{text}\n\n")
    for short in (b"", b"hin", b"hint"):
        with pytest.raises(ValueError, match=r"malformed|too short"):
            parse_checkpoint(signed_note(f"{text}\n", "log.invalid", short, b""))
    with pytest.raises(ValueError, match="too short"):
        parse_checkpoint(signed_note(f"{text}\n", "log.invalid", b"hint", b""))
