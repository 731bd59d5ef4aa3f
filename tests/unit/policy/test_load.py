"""Policy files: strict, and one digest for one meaning."""

import json
import re
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from policy.decision import operator_denial
from policy.errors import PolicyFileError
from policy.load import FOLDER, load_policy, parse_policy
from tests.unit.policy.test_plugins import ONNX as PLUGIN


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("profiles", "operators", "plugins", "seccomp"):
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
        ("profiles/standard.toml", 'operators = ["onnx", "onnx-bounded", ', 'operators = ["onnx", "absent", '),
        ("operators/onnx.toml", '"Abs"', '"A*"'),
        ("operators/onnx.toml", "reviewer =", "reviewed_by ="),
        ("operators/onnx.toml", "reviewed = 2026-11-23", 'reviewed = "soon"'),
        ("operators/onnx.toml", 'id = "ONNX-ARITHMETIC"', 'id = "ONNX-ACTIVATION"'),
        ("operators/onnx-bounded.toml", '  "Loop", ', '  "Abs", '),
        ("operators/onnx.toml", 'effect = "allow"', 'effect = "maybe"'),
        ("operators/onnx.toml", "[[rule]]", "[[rule"),
        ("seccomp/cpu.json", "{", "["),
    ],
)
def test_a_malformed_or_contradictory_file_is_refused(folder: Path, name: str, old: str, new: str) -> None:
    change(folder, name, old, new)
    with pytest.raises(PolicyFileError):
        load_policy("standard", folder=folder)


RULE_SET = """schema = "executor.policy-operators/v1"
format = "onnx"
[[rule]]
id = "ONNX-MORE"
effect = "EFFECT"
namespace = ""
reason = "for tests alone"
reviewer = "security-review"
reviewed = 2026-11-24
allows = ["Relu"]
denies = ["Loop"]
names = ["NAME"]
"""


def compose(folder: Path, effect: str, name: str, *, rule: str = "ONNX-MORE") -> None:
    text = RULE_SET.replace("EFFECT", effect).replace("NAME", name).replace("ONNX-MORE", rule)
    (folder / "operators/more.toml").write_text(text)
    change(folder, "profiles/standard.toml", 'operators = ["onnx", ', 'operators = ["onnx", "more", ')


def test_rule_sets_for_one_format_are_composed(folder: Path) -> None:
    compose(folder, "allow", "Acosh")
    policy = load_policy("standard", folder=folder)
    assert operator_denial(policy, "onnx", "", "Acosh", today=date.min) is None
    assert operator_denial(policy, "onnx", "", "Relu", today=date.min) is None
    assert operator_denial(policy, "onnx", "", "Loop", today=date.min) is not None


@pytest.mark.parametrize(
    ("effect", "name", "rule"),
    [("allow", "Loop", "ONNX-MORE"), ("deny", "Relu", "ONNX-MORE"), ("allow", "Acosh", "ONNX-SHAPE")],
)
def test_rule_sets_that_contradict_each_other_or_share_an_id_are_refused(
    folder: Path, effect: str, name: str, rule: str
) -> None:
    compose(folder, effect, name, rule=rule)
    with pytest.raises(PolicyFileError, match="with the rule sets before it"):
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


def extend(folder: Path, text: str, *, name: str = "mine", base: str = "standard") -> None:
    head = f'schema = "executor.policy-profile/v1"\nextends = "{base}"\nname = "{name}"\nreason = "for a test"\n'
    rest = 'reviewer = "security-review"\nreviewed = 2026-11-24\n'
    (folder / "profiles" / f"{name}.toml").write_text(head + rest + text)


def test_a_profile_that_extends_another_says_where_a_job_runs_and_nothing_else(folder: Path) -> None:
    extend(folder, 'runtime = "crun"\n')
    base, mine = load_policy("standard", folder=folder), load_policy("mine", folder=folder)
    assert (base.profile.runtime, mine.profile.runtime) == ("runc", "crun")
    assert mine.profile.ceilings == base.profile.ceilings
    assert mine.operators == base.operators
    assert mine.digest != base.digest


@pytest.mark.parametrize(
    ("text", "loosened"),
    [
        ("onnx_opset = { min = 17, max = 25 }\n", "onnx_opset.min"),
        ("onnx_opset = { min = 18, max = 26 }\n", "onnx_opset.max"),
        ("onnx_ir = { min = 8, max = 11 }\n", "onnx_ir.max"),
        ("[ceilings]\ncpus = 8.5\n", "ceilings.cpus"),
        ("[ceilings]\noutput_files = 257\n", "ceilings.output_files"),
        ("[replay]\natol_max = 2e-5\n", "replay.atol_max"),
        ("[replay]\ncases_min = 1\nargmax_agreement_min = 0.9\n", "replay.argmax_agreement_min"),
        ('[[format]]\nformat = "pickle"\nroles = ["model"]\nsuffixes = [".pkl"]\n', "formats: format pickle"),
        ('[[format]]\nformat = "npz"\nroles = ["model"]\nsuffixes = [".npz"]\n', "roles of format npz: model"),
        ('[[format]]\nformat = "npz"\nroles = ["data"]\nsuffixes = [".npy"]\n', "endings of format npz: .npy"),
    ],
)
def test_a_profile_that_extends_another_cannot_loosen_what_may_leave(folder: Path, text: str, loosened: str) -> None:
    extend(folder, text)
    with pytest.raises(PolicyFileError, match=f"loosens it: loosened: {re.escape(loosened)}"):
        load_policy("mine", folder=folder)


@pytest.mark.parametrize(
    "text",
    [
        "onnx_opset = { min = 19, max = 24 }\n",
        "[ceilings]\ncpus = 7.5\n",
        "[replay]\ncases_min = 3\natol_max = 1e-6\n",
        '[[format]]\nformat = "npz"\nroles = ["data"]\nsuffixes = [".npz"]\n',
        'operators = ["onnx"]\n',
    ],
)
def test_a_profile_that_extends_another_can_tighten_it(folder: Path, text: str) -> None:
    extend(folder, text)
    mine = load_policy("mine", folder=folder).profile
    assert mine.ceilings.pids == load_policy("standard").profile.ceilings.pids
    assert mine != load_policy("standard").profile


@pytest.mark.parametrize("text", ['network = "none"\n', 'network = "allowlist"\n', "egress = []\n", "surprise = 1\n"])
def test_a_profile_that_extends_another_says_nothing_of_the_network(folder: Path, text: str) -> None:
    extend(folder, text)
    with pytest.raises(PolicyFileError, match="may not change"):
        load_policy("mine", folder=folder)


def test_an_operator_that_only_the_extending_profile_allows_is_refused(folder: Path) -> None:
    change(folder, "operators/onnx.toml", '"Abs", ', "")
    (folder / "operators/wider.toml").write_text((FOLDER / "operators/onnx.toml").read_text())
    extend(folder, 'operators = ["wider", "torchscript", "pt2"]\n')
    with pytest.raises(PolicyFileError, match=r"ai\.onnx::Abs newly allowed"):
        load_policy("mine", folder=folder)


@pytest.mark.parametrize("base", ["nowhere", "mine", "../profiles/standard"])
def test_a_profile_that_extends_none_that_there_is_is_refused(folder: Path, base: str) -> None:
    extend(folder, "", base=base)
    with pytest.raises(PolicyFileError, match="extends a profile that there is not"):
        load_policy("mine", folder=folder)


def test_profiles_extend_one_level_only(folder: Path) -> None:
    extend(folder, "")
    extend(folder, "", name="deeper", base="mine")
    with pytest.raises(PolicyFileError, match="extends another itself"):
        load_policy("deeper", folder=folder)


@pytest.mark.parametrize(
    "text", ["[replay]\natol_max = nan\n", "[replay]\nrtol_max = inf\n", "[ceilings]\ncpus = nan\n"]
)
def test_a_number_that_is_none_is_refused(folder: Path, text: str) -> None:
    """It would be neither more nor less than the one that it stands in for."""
    extend(folder, text)
    with pytest.raises(PolicyFileError, match="finite"):
        load_policy("mine", folder=folder)


def test_an_extending_profile_cannot_let_the_loader_make_more(folder: Path) -> None:
    text = (FOLDER / "operators/onnx.toml").read_text()
    (folder / "operators/more.toml").write_text(text.replace("[[rule]]", "[[rule]]\nloader_makes = true", 1))
    extend(folder, 'operators = ["more", "torchscript", "pt2"]\n')
    with pytest.raises(PolicyFileError, match="loader may make"):
        load_policy("mine", folder=folder)


def write_plugin(folder: Path, rule: dict[str, Any]) -> None:
    """Write a plugin's file, `mine.toml`."""
    plain = [f"{key} = {json.dumps(value)}" for key, value in rule.items() if not isinstance(value, dict | date)]
    tables = [
        f"[{key}]\n" + "\n".join(f'{name} = "{text}"' for name, text in value.items())
        for key, value in rule.items()
        if isinstance(value, dict)
    ]
    (folder / "plugins/mine.toml").write_text("\n".join([*plain, "reviewed = 2026-11-24", *tables]))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("profiles/standard.toml", '"onnx-bounded"', '"absent"', "cannot read policy file absent.toml"),
        ("operators/onnx.toml", "[[rule]]", "[[rule", r"malformed: onnx.toml: Expected"),
        ("profiles/standard.toml", "onnx_opset", 'plugins = ["mine"]\nonnx_opset', "names itself 'twice-ort'"),
    ],
)
def test_each_fault_of_a_file_is_said_for_itself(folder: Path, name: str, old: str, new: str, message: str) -> None:
    write_plugin(folder, PLUGIN)
    change(folder, name, old, new)
    with pytest.raises(PolicyFileError, match=message):
        load_policy("standard", folder=folder)


def test_a_plugin_is_read_from_its_file(folder: Path) -> None:
    write_plugin(folder, PLUGIN | {"name": "mine"})
    change(folder, "profiles/standard.toml", "onnx_opset", 'plugins = ["mine"]\nonnx_opset')
    assert load_policy("standard", folder=folder).plugins["mine"].sha256 == PLUGIN["sha256"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "has profile, operators, plugins and seccomp"),
        ([], "has profile, operators, plugins and seccomp"),
        ({"profile": {}, "operators": {}, "plugins": {}, "seccomp": "", "x": 1}, "has profile, operators"),
        ({"profile": {}, "operators": [], "plugins": {}, "seccomp": ""}, "operators by format"),
        ({"profile": {}, "operators": {}, "plugins": [], "seccomp": ""}, "plugins by name"),
        ({"profile": {}, "operators": {}, "plugins": {}, "seccomp": {}}, "seccomp as text"),
    ],
)
def test_each_fault_of_a_recorded_policy_is_said_for_itself(document: object, message: str) -> None:
    with pytest.raises(PolicyFileError, match=message):
        parse_policy(document)
