"""Policy files: strict, and one digest for one meaning."""

import json
import shutil
from pathlib import Path

import pytest

from policy.errors import PolicyFileError
from policy.load import FOLDER, load_policy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("profiles", "operators", "seccomp"):
        shutil.copytree(FOLDER / part, tmp_path / part)
    return tmp_path


def change(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))


def test_comments_and_layout_do_not_change_the_digest(folder: Path) -> None:
    before = load_policy("standard", folder=folder).digest
    change(folder, "operators/onnx.toml", "schema =", "# a remark\nschema   =")
    assert load_policy("standard", folder=folder).digest == before == load_policy("standard").digest


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("operators/onnx.toml", '"Abs", ', ""),
        ("operators/torchscript.toml", '"from_file"', '"from_blob"'),
        ("profiles/standard.toml", "max = 25", "max = 26"),
        ("seccomp/cpu.json", '"accept4",', '"ptrace",'),
    ],
)
def test_every_change_of_meaning_changes_the_digest(folder: Path, name: str, old: str, new: str) -> None:
    before = load_policy("standard", folder=folder).digest
    change(folder, name, old, new)
    assert load_policy("standard", folder=folder).digest != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("profiles/standard.toml", "runtime =", "run_time ="),
        ("profiles/standard.toml", 'network = "none"', 'network = "host"'),
        ("profiles/standard.toml", 'name = "standard"', 'name = "other"'),
        ("profiles/standard.toml", 'operators = ["onnx", "torchscript"]', 'operators = ["onnx", "absent"]'),
        ("operators/onnx.toml", '"Abs"', '"A*"'),
        ("operators/onnx.toml", "reviewer =", "reviewed_by ="),
        ("operators/onnx.toml", "reviewed = 2026-11-23", 'reviewed = "soon"'),
        ("operators/onnx.toml", 'id = "ONNX-ARITHMETIC"', 'id = "ONNX-ACTIVATION"'),
        ("operators/onnx.toml", '"Loop"', '"Abs"'),
        ("operators/onnx.toml", 'effect = "allow"', 'effect = "maybe"'),
        ("operators/onnx.toml", "[[rule]]", "[[rule"),
        ("seccomp/cpu.json", "{", "["),
    ],
)
def test_a_malformed_or_contradictory_file_is_refused(folder: Path, name: str, old: str, new: str) -> None:
    change(folder, name, old, new)
    with pytest.raises(PolicyFileError):
        load_policy("standard", folder=folder)


def test_a_second_file_for_a_format_is_refused_and_never_replaces_the_first(folder: Path) -> None:
    text = (folder / "operators/onnx.toml").read_text().replace('"Relu", ', "")
    (folder / "operators/ban.toml").write_text(text)
    change(folder, "profiles/standard.toml", 'operators = ["onnx", ', 'operators = ["ban", "onnx", ')
    with pytest.raises(PolicyFileError, match="two operator files"):
        load_policy("standard", folder=folder)


def test_a_profile_that_does_not_exist_is_refused_with_those_that_do() -> None:
    for name in ("absent", "../standard", ""):
        with pytest.raises(PolicyFileError) as refused:
            load_policy(name)
        assert "standard" in refused.value.hint


DENIED = (
    "bpf keyctl add_key request_key memfd_create memfd_secret io_uring_setup io_uring_enter userfaultfd ptrace "
    "process_vm_readv process_vm_writev perf_event_open unshare setns mount umount2 pivot_root chroot mknod mknodat "
    "personality vmsplice splice name_to_handle_at open_by_handle_at modify_ldt pidfd_open pidfd_getfd kexec_load "
    "init_module finit_module fsopen fsmount move_mount open_tree syslog reboot swapon quotactl acct settimeofday"
).split()


def test_the_seccomp_profile_allows_none_of_the_denied_families() -> None:
    profile = json.loads(load_policy("standard").seccomp_text)
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["architectures"] == ["SCMP_ARCH_X86_64"]
    allowed = {n for s in profile["syscalls"] if s["action"] == "SCMP_ACT_ALLOW" for n in s["names"]}
    assert allowed.isdisjoint(DENIED)


def test_the_seccomp_profile_restricts_socket_families_and_new_namespaces() -> None:
    syscalls = json.loads(load_policy("standard").seccomp_text)["syscalls"]
    families = {s["args"][0]["value"] for s in syscalls if s["names"] == ["socket"]}
    assert families == {1, 2, 10}  # AF_UNIX, AF_INET, AF_INET6: neither AF_ALG (38) nor AF_VSOCK (40)
    (clone,) = [s for s in syscalls if s["names"] == ["clone"]]
    assert clone["args"][0] == {"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    (clone3,) = [s for s in syscalls if s["names"] == ["clone3"]]
    assert (clone3["action"], clone3["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)
