"""The semantic difference of two policies: each kind of change, both ways, is called what it is."""

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from policy.diff import Change, diff_policies
from policy.load import FOLDER, load_policy
from policy.model import Policy

TODAY = date(2026, 11, 24)
STANDARD = load_policy("standard")
Edit = Callable[[Path], None]


def replacing(name: str, old: str, new: str) -> Edit:
    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return edit


def edited(folder: Path, *edits: Edit) -> Policy:
    for part in ("profiles", "operators", "plugins", "seccomp"):
        shutil.copytree(FOLDER / part, folder / part, dirs_exist_ok=True)
    for edit in edits:
        edit(folder)
    return load_policy("standard", folder=folder)


def seccomp(change: Callable[[dict[str, object]], None]) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "seccomp/cpu.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return edit


RULE = '\n[[egress]]\nid = "E-A"\nhost = "a.example.org"\nport = 443\nreason = "for the tests"\n'
EGRESS = RULE + 'reviewer = "security-review"\nreviewed = 2026-11-24\n'


def reaching(*more: str) -> Edit:
    def edit(folder: Path) -> None:
        replacing("profiles/standard.toml", 'network = "none"', 'network = "allowlist"')(folder)
        path = folder / "profiles/standard.toml"
        path.write_text(path.read_text() + EGRESS + "".join(more))

    return edit


# An edit that loosens, and what it is called; undone, it tightens under the same name.
LOOSENING: list[tuple[Edit, str]] = [
    (replacing("operators/onnx.toml", '"Abs", ', '"Abs", "Acosh", '), "onnx operator ai.onnx::Acosh newly allowed"),
    (replacing("operators/torchscript.toml", '  "from_file", ', "  "), ""),
    (replacing("profiles/standard.toml", "max = 25", "max = 26"), "onnx_opset.max"),
    (replacing("profiles/standard.toml", "min = 18", "min = 17"), "onnx_opset.min"),
    (replacing("profiles/standard.toml", "atol_max = 1e-5", "atol_max = 1e-4"), "replay.atol_max"),
    (replacing("profiles/standard.toml", "argmax_agreement_min = 1.0", "argmax_agreement_min = 0.9"), "replay.argmax"),
    (replacing("profiles/standard.toml", "pids = 1024", "pids = 2048"), "ceilings.pids"),
    (replacing("profiles/standard.toml", '[".onnx"]', '[".onnx", ".bin"]'), "endings of format onnx: .bin"),
    (
        replacing(
            "profiles/standard.toml", 'roles = ["test-vectors", "data"]', 'roles = ["test-vectors", "data", "model"]'
        ),
        "roles of format npz: model",
    ),
    (replacing("profiles/standard.toml", 'images = ["cpu"]', 'images = ["cpu", "cuda"]'), "images: cuda"),
    (replacing("seccomp/cpu.json", '"accept4",', '"accept4", "ptrace",'), "system calls: ptrace"),
    (reaching(), "egress: a.example.org:443"),
]


@pytest.mark.parametrize(("edit", "subject"), [pair for pair in LOOSENING if pair[1]])
def test_what_loosens_is_called_so_and_its_undoing_tightens(tmp_path: Path, edit: Edit, subject: str) -> None:
    looser = edited(tmp_path, edit)
    (change,) = diff_policies(STANDARD, looser, today=TODAY)
    assert change.effect == "loosened"
    assert change.subject.startswith(subject)
    (undone,) = diff_policies(looser, STANDARD, today=TODAY)
    assert undone.effect == "tightened"
    assert (undone.old, undone.new) == (change.new, change.old)


def test_equal_policies_and_other_words_make_no_difference(tmp_path: Path) -> None:
    assert diff_policies(STANDARD, STANDARD, today=TODAY) == []
    other = edited(tmp_path, replacing("operators/onnx.toml", "reviewed = 2026-11-23", "reviewed = 2026-11-24"))
    assert other.digest != STANDARD.digest
    assert diff_policies(STANDARD, other, today=TODAY) == []


def test_an_operator_that_is_denied_by_name_no_longer_is_no_loosening(tmp_path: Path) -> None:
    (change,) = diff_policies(STANDARD, edited(tmp_path, LOOSENING[1][0]), today=TODAY)
    assert change == Change(
        effect="changed", subject="torchscript operator aten::from_file", old="deny by TS-FILES", new="deny by default"
    )


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (None, "2027-01-31", "tightened"),
        ("2027-01-31", None, "loosened"),
        ("2027-01-31", "2027-02-01", "loosened"),
        ("2027-02-01", "2027-01-31", "tightened"),
    ],
)
def test_a_rule_that_stands_longer_is_loosened(
    tmp_path: Path, before: str | None, after: str | None, effect: str
) -> None:
    def expiring(day: str | None) -> Policy:
        line = f"\nexpires = {day}" if day else ""
        head = 'id = "ONNX-ARITHMETIC"'
        return edited(tmp_path / str(day), replacing("operators/onnx.toml", head, head + line))

    (change,) = diff_policies(expiring(before), expiring(after), today=TODAY)
    assert (change.effect, change.subject) == (effect, "expiry of rule ONNX-ARITHMETIC")


def test_a_rule_allows_to_the_day_it_expires_and_nothing_after(tmp_path: Path) -> None:
    head = 'id = "ONNX-BRANCH"'
    expiring = edited(tmp_path, replacing("operators/onnx.toml", head, head + "\nexpires = 2026-11-24"))
    on_the_day = [c.subject for c in diff_policies(STANDARD, expiring, today=TODAY)]
    assert on_the_day == ["expiry of rule ONNX-BRANCH"]
    after = diff_policies(STANDARD, expiring, today=date(2026, 11, 25))
    assert "onnx operator ai.onnx::If newly denied" in [c.subject for c in after]
    assert {c.effect for c in after} == {"tightened"}


def test_another_runtime_is_loosened_unless_it_is_gvisor() -> None:
    effects = {
        (old, new): next(
            c.effect for c in diff_policies(load_policy(old), load_policy(new), today=TODAY) if c.subject == "runtime"
        )
        for old, new in (("standard", "crun"), ("crun", "standard"), ("standard", "gvisor"), ("gvisor", "standard"))
    }
    assert effects == {
        ("standard", "crun"): "loosened",
        ("crun", "standard"): "loosened",
        ("standard", "gvisor"): "tightened",
        ("gvisor", "standard"): "loosened",
    }


def test_a_host_that_moves_is_loosened(tmp_path: Path) -> None:
    (change,) = diff_policies(
        edited(tmp_path / "a", reaching()), edited(tmp_path / "b", reaching('address = "10.0.0.1"\n')), today=TODAY
    )
    assert (change.effect, change.old, change.new) == ("loosened", "looked up", "10.0.0.1")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(defaultAction="SCMP_ACT_LOG"),
        lambda d: d["syscalls"].append({"names": ["ptrace"], "action": "SCMP_ACT_LOG"}),
        lambda d: [s.update(errnoRet=1) for s in d["syscalls"] if s["names"] == ["clone3"]],
    ],
)
def test_what_seccomp_does_with_the_rest_counts_as_loosened(
    tmp_path: Path, change: Callable[[dict[str, object]], None]
) -> None:
    (found,) = diff_policies(STANDARD, edited(tmp_path, seccomp(change)), today=TODAY)
    assert found.effect == "loosened"


def test_a_condition_that_falls_away_is_loosened(tmp_path: Path) -> None:
    def unconditional(document: dict[str, object]) -> None:
        for entry in document["syscalls"]:  # type: ignore[attr-defined]
            if entry["names"] == ["clone"]:
                del entry["args"]

    without = edited(tmp_path, seccomp(unconditional))
    loosened = Change(effect="loosened", subject="system calls: clone", old="absent", new="present")
    assert diff_policies(STANDARD, without, today=TODAY) == [loosened]
    tightened = Change(effect="tightened", subject="system calls: clone", old="present", new="absent")
    assert diff_policies(without, STANDARD, today=TODAY) == [tightened]


def test_one_argument_more_that_is_allowed_is_loosened(tmp_path: Path) -> None:
    def fewer(document: dict[str, object]) -> None:
        document["syscalls"] = [s for s in document["syscalls"] if s.get("comment") != "F_DUPFD"]  # type: ignore[attr-defined]

    (change,) = diff_policies(edited(tmp_path, seccomp(fewer)), STANDARD, today=TODAY)
    assert (change.effect, change.subject.partition(" where ")[0]) == ("loosened", "system calls: fcntl")
