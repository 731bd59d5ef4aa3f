"""The command line as a program sees it: stdout, stderr and exit code together."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from executor import __version__
from executor.cli.schema import PRINTED, SIGNED
from executor.state.home import Home
from signing.local import open_or_create
from tests.unit.signing.conftest import make_release

ROOT = Path(__file__).parents[2]


def executor(*arguments: str, cwd: Path = ROOT, isolated: bool = True) -> subprocess.CompletedProcess[str]:
    options = ["-I"] if isolated else []
    command = [sys.executable, *options, "-m", "executor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text("apiVersion: executor/v1\nkind: train\n")
    return path


def test_version_is_data_on_stdout_and_nothing_else() -> None:
    done = executor("version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")
    assert json.loads(executor("version", "--json").stdout) == {
        "schema": "executor.version/v1",
        "version": __version__,
    }


HEAVY = ("torch", "numpy", "onnx", "onnxruntime", "sigstore", "docker", "grpc", "pyarrow")


def imported(*arguments: str) -> set[str]:
    command = [sys.executable, "-I", "-X", "importtime", "-m", "executor", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_version_and_verify_import_nothing_heavy(tmp_path: Path) -> None:
    for arguments in (("version",), ("verify", str(tmp_path))):
        names = imported(*arguments)
        assert "executor.cli.main" in names
        tops = {n.partition(".")[0] for n in names}
        assert tops.isdisjoint((*HEAVY, "pydantic", "yaml", "rich", "requests")), arguments


def test_plan_imports_no_engine_and_no_runtime(job: Path) -> None:
    assert {n.partition(".")[0] for n in imported("plan", str(job))}.isdisjoint(HEAVY)


def test_the_host_environment_holds_no_torch() -> None:
    code = "import importlib.util,sys; sys.exit(any(importlib.util.find_spec(n) for n in ('torch','onnxruntime')))"
    assert subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "arguments", [(), ("dance",), ("run",), ("plan", "a", "b"), ("schema", "absent"), ("run", "--no")]
)
def test_a_wrong_command_line_is_an_invalid_request(arguments: tuple[str, ...]) -> None:
    done = executor(*arguments)
    assert done.returncode == 21
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "hint: " in done.stderr


def test_a_wrong_command_line_is_explained_to_programs_too() -> None:
    done = executor("run", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (21, "E-REQUEST")


def test_help_is_data() -> None:
    done = executor("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "verify" in done.stdout
    assert executor("--version").stdout == f"{__version__}\n"
    assert "--trust-root" in executor("verify", "--help").stdout


def test_plan_prints_the_same_object_twice(job: Path) -> None:
    one, two = executor("plan", str(job)), executor("plan", str(job))
    assert (one.returncode, one.stderr) == (0, "")
    assert one.stdout == two.stdout
    document = json.loads(one.stdout)
    assert document["schema"] == "executor.plan/v1"
    assert document["job"]["network"] == "none"
    assert len(document["plan_sha256"]) == 64


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("apiVersion: executor/v1\nkind: train\nsurprise: 1\n", 21, "surprise"),
        ("apiVersion: executor/v1\nkind: train\nimage: absent\n", 22, "no image named"),
        ("apiVersion: executor/v1\nkind: train\nprofile: absent\n", 21, "no profile named"),
        ("apiVersion: executor/v1\nkind: train\nlimits: {pids: 2000}\n", 21, "limits.pids is 2000"),
        ("apiVersion: executor/v1\nkind: script\ncode: {path: absent}\noutputs: [{name: a}]\n", 21, "no code"),
        (
            "apiVersion: executor/v1\nkind: train\ninputs:"
            f" {{nodes: {{uri: 's3://b/n', sha256: '{'0' * 64}'}}, edges: {{uri: e, sha256: '{'0' * 64}'}}}}\n",
            21,
            "cannot fetch",
        ),
    ],
)
def test_an_invalid_job_is_explained_to_people_and_programs(job: Path, text: str, code: int, words: str) -> None:
    job.write_text(text)
    done = executor("plan", str(job), "--json")
    assert done.returncode == code
    assert words in done.stderr
    document = json.loads(done.stdout)
    assert (document["schema"], document["exit_code"]) == ("executor.error/v1", code)
    assert words in document["error"]["message"]


def test_a_job_file_that_is_missing_is_an_invalid_request(tmp_path: Path) -> None:
    done = executor("plan", str(tmp_path / "absent.yaml"))
    assert (done.returncode, done.stdout) == (21, "")


def test_json_and_events_cannot_share_stdout(job: Path) -> None:
    done = executor("run", str(job), "--json", "--events", "-")
    assert done.returncode == 21
    assert "both want stdout" in done.stderr


def test_a_failed_run_ends_its_events_with_a_result(tmp_path: Path) -> None:
    done = executor("run", str(tmp_path / "absent.yaml"), "--events", "-")
    (line,) = done.stdout.splitlines()
    event = json.loads(line)
    assert (event["event"], event["seq"], event["result"]["exit_code"]) == ("result", 0, 21)


@pytest.mark.parametrize("name", ["job", "profile", "operators", *SIGNED, *PRINTED])
def test_every_schema_is_a_json_schema(name: str) -> None:
    schema: dict[str, Any] = json.loads(executor("schema", name).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)


def test_a_policy_folder_in_the_working_directory_is_never_loaded(tmp_path: Path, job: Path) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/__init__.py").write_text("raise SystemExit('loaded the wrong policy')")
    assert executor("plan", str(job), cwd=tmp_path).returncode == 0
    mixed = executor("plan", str(job), cwd=tmp_path, isolated=False)
    assert "loaded the wrong policy" not in mixed.stderr
    assert mixed.returncode == 31
    assert "comes from another place" in mixed.stderr


@pytest.mark.parametrize("what", [(), ("--artifact",), ("--record",)])
def test_what_is_not_there_is_a_wrong_option_and_no_release_that_fails(tmp_path: Path, what: tuple[str, ...]) -> None:
    done = executor("verify", *what, str(tmp_path / "absent"), "--json")
    assert (done.returncode, "nothing to verify" in done.stderr) == (21, True)


def test_whoever_trusts_nobody_verifies_nothing(tmp_path: Path) -> None:
    done = executor("verify", str(tmp_path), "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["check"]) == (23, "TRUST-ROOT")


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", ""),
        ("verify", "--artifact", ""),
        ("verify", "--artifact", "/"),
        ("verify", "--artifact", "."),
        ("verify", ".", "--trust-root", ""),
        ("verify", ".", "--key", ""),
        ("verify", ".", "--policy", ""),
        ("verify", ".", "--require", "reproduced="),
        ("verify", ".", "--require", "reproduced=0"),
        ("verify", ".", "--require", "reproduced=\u00b2"),
        ("verify", ".", "--require", "reproduced=2"),
        ("verify", ".", "--builder", "urn:a", "--builder", "urn:b"),
        ("verify", ".", "--identity-pattern", "a{99999999999999999999}", "--issuer", "b"),
        ("verify", ".", "--identity-pattern", "(" * 5000, "--issuer", "b"),
        ("verify", ".", "--trust", "x"),
        ("verify", ".", "--name", "x"),
        ("trust", "export", "--out", ""),
    ],
)
def test_an_unset_variable_or_a_misspelt_option_weakens_nothing(home: Path, arguments: tuple[str, ...]) -> None:
    assert executor("trust", "init").returncode == 0
    done = executor(*arguments, "--json")
    assert (done.returncode, json.loads(done.stdout)["exit_code"], "Traceback" in done.stderr) == (21, 21, False)


def test_expectations_of_a_verifier_go_together(tmp_path: Path) -> None:
    done = executor("verify", str(tmp_path), "--identity", "urn:x")
    assert done.returncode == 21
    assert "need --trust-root" in done.stderr


@pytest.mark.parametrize("value", ["", "https://\u00e9"])
def test_an_unset_or_strange_identity_is_refused(tmp_path: Path, value: str) -> None:
    done = executor("verify", str(tmp_path), "--trust-root", "x", "--identity", value, "--issuer", value)
    assert done.returncode == 21
    assert "is not a name" in done.stderr


def test_verifying_leaves_no_state_behind(tmp_path: Path, home: Path) -> None:
    assert executor("verify", str(tmp_path)).returncode == 23
    assert not home.exists()


def test_a_closed_stdout_is_no_traceback(job: Path) -> None:
    command = f"{sys.executable} -I -m executor plan {job} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300, check=False)
    assert "Traceback" not in done.stderr


LOCK = ROOT / "images/cpu.lock.json"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("image",), 21, "required"),
        (("image", "dance", "cpu"), 21, "invalid choice"),
        (("image", "build", "absent"), 22, "no image named"),
        (("image", "verify", "cpu"), 22, "not in the cache"),
        (("image", "diff", "cpu", "/absent.json"), 22, "cannot read image lock"),
        (("image", "pull", "cpu", "https://h/a"), 21, "not a repository"),
        (("image", "pull", "cpu", "[::::]/a"), 21, "not a repository"),
        (("image", "lock", "absent"), 22, "no image definition"),
        (("image", "lock", "cpu", "--upgrade", "no-such"), 22, "has no package"),
    ],
)
def test_image_commands_explain_what_they_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, words: str
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")  # neither apt nor docker are to be had
    done = executor(*arguments, "--json")
    assert done.returncode == code, done.stderr
    assert re.search(words, done.stderr)
    assert json.loads(done.stdout)["exit_code"] == code


def test_verifying_an_image_leaves_no_state_behind(home: Path) -> None:
    assert executor("image", "verify", "cpu").returncode == 22
    assert not home.exists()


def test_a_bill_of_materials_needs_no_state_and_no_package(home: Path) -> None:
    for form, key in (("spdx", "spdxVersion"), ("cyclonedx", "bomFormat")):
        done = executor("image", "sbom", "cpu", "--format", form)
        assert (done.returncode, done.stderr) == (0, "")
        assert key in json.loads(done.stdout)
    assert not home.exists()


def test_a_diff_of_equal_locks_is_empty_and_a_substitution_can_fail_a_review(tmp_path: Path) -> None:
    done = executor("image", "diff", "cpu", str(LOCK), "--json")
    assert (done.returncode, json.loads(done.stdout)["same"]) == (0, True)
    document = json.loads(LOCK.read_bytes())
    document["inputs"][0]["sha256"] = "0" * 64
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document))
    done = executor("image", "diff", "cpu", str(other))
    assert done.returncode == 0
    assert done.stdout.startswith("!!! 1 PACKAGES KEPT THEIR VERSION AND CHANGED THEIR BYTES")
    assert executor("image", "diff", "cpu", str(other), "--no-substitution").returncode == 22


def test_image_commands_that_build_import_no_library_of_others() -> None:
    for arguments in (("image", "verify", "cpu"), ("image", "diff", "cpu", "cpu"), ("image", "sbom", "cpu")):
        tops = {n.partition(".")[0] for n in imported(*arguments)}
        assert tops.isdisjoint((*HEAVY, "requests", "packaging", "pydantic", "cryptography", "yaml")), arguments


@pytest.mark.parametrize(
    "option", [("--size", "0"), ("--size", "65"), ("--lease-seconds", "0.9"), ("--lease-seconds", "86401")]
)
def test_a_pool_beyond_its_bounds_is_an_invalid_request(option: tuple[str, str]) -> None:
    done = executor("pool", "start", *option, "--json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (21, "invalid_request")


@pytest.mark.parametrize("option", [("--size", "64"), ("--lease-seconds", "1"), ("--lease-seconds", "86400")])
def test_a_pool_at_its_bounds_gets_as_far_as_reading_its_jobs(option: tuple[str, str]) -> None:
    done = executor("pool", "start", "absent.json", *option, "--json")
    assert "cannot read the job file" in json.loads(done.stdout)["error"]["message"]


def test_no_pool_is_no_error() -> None:
    for action in ("status", "stop"):
        done = executor("pool", action, "--json")
        assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "stopped")


@pytest.mark.parametrize("arguments", [("version",), ("schema", "job"), ("trust", "export"), ("verify", "--help")])
def test_data_that_is_lost_is_a_failure(home: Path, arguments: tuple[str, ...]) -> None:
    assert executor("trust", "init").returncode == 0
    command = f"{sys.executable} -I -m executor {' '.join(arguments)}"
    for redirection, code in ((">/dev/full", 30), (">&-", 0), ("| true; exit ${PIPESTATUS[0]}", 0)):
        done = subprocess.run(
            ["bash", "-c", f"{command} {redirection}"], capture_output=True, text=True, timeout=300, check=False
        )
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        assert ("cannot write to stdout" in done.stderr) == (code == 30)
        assert done.stderr == "" or code == 30


def test_what_is_done_is_not_to_be_done_again_because_a_line_was_lost(home: Path) -> None:
    for number, action in enumerate(("init", "rotate", "rotate"), 1):
        command = f"{sys.executable} -I -m executor trust {action} >/dev/full"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300, check=False)
        assert (done.returncode, "cannot write to stdout" in done.stderr) == (0, True)
        assert len(json.loads(executor("trust", "show", "--json").stdout)["epochs"]) == number


def test_more_data_than_a_pipe_holds_is_lost_without_a_traceback(tmp_path: Path) -> None:
    code = "import executor.cli.version as v, sys; v.execute = lambda a, o: o.write('x' * 10**6) and 0;"
    code += "from executor.cli.main import main; sys.exit(main(['version']))"
    for redirection, wanted in ((">/dev/full", 30), ("| true; exit ${PIPESTATUS[0]}", 0)):
        command = f'{sys.executable} -I -c "{code}" {redirection}'
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (wanted, False), done.stderr


def test_names_of_others_cannot_pass_for_lines_of_ours(home: Path, tmp_path: Path) -> None:
    domain = open_or_create(Home(home).trust, now=datetime.now(UTC))
    name = os.fsdecode(b"re\xfflease\n::warning::forged\x1b[2K")
    release = make_release(tmp_path, domain, "plain").rename(tmp_path / name)
    done = executor("verify", str(release))
    assert done.returncode == 0, done.stderr
    (release / "x\nok    LAYOUT  forged\nverified: everything").touch()
    refused = executor("verify", str(release))
    assert refused.returncode == 23
    assert refused.stderr.startswith("error: LAYOUT: file is not in the manifest: x\\nok")
    for text in (done.stdout, refused.stderr):
        assert not any(line.startswith(("::", "verified: everything")) for line in text.splitlines())
        assert "\x1b" not in text
