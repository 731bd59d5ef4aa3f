"""`executor trust` as operators call it: codes, streams, and nothing reached over a network."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from executor.release.record import write_record
from executor.state.home import Home
from signing.local import open_or_create
from signing.modes import choose_key, open_signer
from tests.contract.conftest import executor
from tests.unit.signing.conftest import make_record, make_release


def test_a_host_says_who_signs_on_it(home: Path) -> None:
    for action in (("show",), ("export",), ("log",), ("rotate",)):
        refused = executor("trust", *action)
        assert (refused.returncode, "executor trust init" in refused.stderr) == (21, True)
    assert not home.exists(), "looking makes nothing"
    made = executor("trust", "init", "--json")
    assert (made.returncode, json.loads(made.stdout)["mode"]) == (0, "local")
    shown = json.loads(executor("trust", "show", "--json").stdout)
    assert (shown["schema"], shown["epochs"][0]["entries"]) == ("executor.trust-status/v1", 0)
    assert shown["identity"].startswith("urn:sealed-executor:local:")


def test_rotation_and_revocation_by_command(release: Path) -> None:
    assert "epoch 2" in executor("trust", "rotate").stdout
    assert executor("verify", str(release)).returncode == 0
    revoked = executor("trust", "revoke", "--epoch", "1", "--from-index", "0", "--reason", "stolen", "--json")
    assert (revoked.returncode, json.loads(revoked.stdout)["epochs"][0]["closed_size"]) == (0, 0)
    refused = executor("verify", str(release), "--json")
    assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (23, "E-VERIFICATION")
    wrong = executor("trust", "revoke", "--epoch", "7", "--from-index", "0", "--reason", "x")
    assert (wrong.returncode, "no epoch 7" in wrong.stderr) == (21, True)


def test_a_log_proves_that_it_has_only_grown(tmp_path: Path, home: Path, release: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.write_text(json.loads(executor("trust", "show", "--json").stdout)["epochs"][0]["checkpoint"])
    make_release(tmp_path, open_or_create(Home(home).trust, now=datetime.now(UTC)), "second")
    shown = json.loads(executor("trust", "show", "--since", str(checkpoint), "--json").stdout)
    assert shown["consistency"]["new"] > shown["consistency"]["old"] > 0
    status = tmp_path / "status.json"
    status.write_text(executor("trust", "show", "--json").stdout)
    executor("trust", "rotate")
    assert executor("trust", "show", "--since", str(status)).returncode == 0
    status.write_text(executor("trust", "show", "--json").stdout)
    now = json.loads(executor("trust", "show", "--since", str(status), "--json").stdout)["consistency"]
    assert (now["epoch"], now["old"], now["new"]) == (2, 0, 0), "an empty log is the beginning of any"
    text = checkpoint.read_text()
    forged = tmp_path / "forged"
    forged.write_text(re.sub(r"\n[A-Za-z0-9+/]{43}=\n", f"\n{'A' * 43}=\n", text, count=1))
    assert executor("trust", "show", "--since", str(forged)).returncode == 23
    for nothing in (
        "nothing",
        "{}",
        '{"epochs": []}',
        '{"epochs": [{"checkpoint": 5}]}',
        '{"epochs": ' + "[" * 5000,
        "[]",
    ):
        (tmp_path / "none").write_text(nothing)
        refused = executor("trust", "show", "--since", str(tmp_path / "none"))
        assert (refused.returncode, "Traceback" in refused.stderr) == (21, False)


def test_what_is_exported_is_all_that_a_verifier_needs(tmp_path: Path, release: Path, exported: Path) -> None:
    elsewhere = {"EXECUTOR_HOME": str(tmp_path / "elsewhere")}
    assert executor("verify", str(release), **elsewhere).returncode == 23
    done = executor("verify", str(release), "--trust-root", str(exported), "--json", **elsewhere)
    wire = json.loads(done.stdout)
    assert (done.returncode, wire["status"], wire["profile"]) == (0, "verified", "standard")
    assert {"CHAIN", "REVOKED"} <= set(wire["checked"])
    root = tmp_path / "trusted_root.json"
    assert executor("trust", "export", "--form", "trusted-root", "--out", str(root)).returncode == 0
    assert executor("verify", str(release), "--trust-root", str(root), **elsewhere).returncode == 21
    named = ["--identity", wire["signer"], "--issuer", wire["issuer"]]
    assert executor("verify", str(release), "--trust-root", str(root), *named, **elsewhere).returncode == 0
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_signs_and_is_verified_by_its_public_half(tmp_path: Path, home: Path) -> None:
    assert json.loads(executor("trust", "init", "--mode", "key", "--json").stdout)["mode"] == "key"
    assert executor("trust", "init", "--mode", "key").returncode == 0, "again is the same"
    signer = open_signer(Home(home).trust, now=datetime.now(UTC), passphrase=None)
    release = make_release(tmp_path, signer, "release")
    assert executor("verify", str(release)).returncode == 0
    public = tmp_path / "public.pem"
    assert executor("trust", "export", "--form", "public-key", "--out", str(public)).returncode == 0
    elsewhere = {"EXECUTOR_HOME": str(tmp_path / "elsewhere")}
    done = executor("verify", str(release), "--key", str(public), "--json", **elsewhere)
    wire = json.loads(done.stdout)
    assert (done.returncode, wire["signed_at"], "LOG" in wire["checked"]) == (0, None, False)
    choose_key(tmp_path / "other", key=None, passphrase=None)
    refused = executor("verify", str(release), "--key", str(tmp_path / "other/public.pem"), **elsewhere)
    assert refused.returncode == 23
    assert executor("trust", "init", "--mode", "key", "--key", str(tmp_path / "other/signing.key")).returncode == 21
    assert executor("verify", str(release), "--key", str(public), "--identity", "urn:x").returncode == 21
    for action in (("rotate",), ("log",), ("show", "--since", str(public)), ("export", "--form", "trust")):
        assert executor("trust", *action).returncode == 21
    assert executor("trust", "export").stdout == public.read_text()
    wire = json.loads(executor("trust", "export", "--json").stdout)
    assert (wire["form"], wire["document"]) == ("public-key", public.read_text())


@pytest.mark.parametrize(
    "options",
    [
        ["--encrypt"],
        ["--key", "x"],
        ["--identity", "x"],
        ["--ambient"],
        ["--mode", "keyless"],
        ["--mode", "keyless", "--trust-config", "x", "--identity", "a", "--issuer", "b"],
    ],
)
def test_options_that_do_not_go_together_choose_nothing(home: Path, options: list[str]) -> None:
    assert executor("trust", "init", *options).returncode == 21
    assert not (home / "trust/signer.json").exists()


def test_setting_a_host_up_once_more_changes_nobody_who_signs(home: Path) -> None:
    assert executor("trust", "init", "--mode", "key").returncode == 0
    before = executor("trust", "show").stdout
    assert executor("trust", "init").stdout == before
    refused = executor("trust", "init", "--mode", "local")
    assert (refused.returncode, "--replace" in refused.stderr, executor("trust", "show").stdout) == (21, True, before)
    assert "mode: local" in executor("trust", "init", "--mode", "local", "--replace").stdout
    assert executor("trust", "init", "--mode", "key").returncode == 21
    assert "mode: key" in executor("trust", "init", "--mode", "key", "--replace").stdout


def test_the_entry_to_revoke_from_is_found(release: Path) -> None:
    wanted = json.loads(executor("verify", str(release), "--json").stdout)["statement_sha256"]
    entries = json.loads(executor("trust", "log", "--json").stdout)["entries"]
    (index,) = (entry["index"] for entry in entries if entry["statement_sha256"] == wanted)
    lines = executor("trust", "log", "--epoch", "1").stdout.splitlines()
    assert (len(lines), lines[index].split()[2]) == (len(entries), wanted)
    assert executor("trust", "log", "--epoch", "2").returncode == 21
    revoke = ("trust", "revoke", "--epoch", "1", "--from-index", str(index), "--reason", "x\nepoch 9: forged")
    revoked = executor(*revoke)
    assert revoked.returncode == 0
    assert not any(line.startswith("epoch 9") for line in revoked.stdout.splitlines())
    assert executor("verify", str(release)).returncode == 23


def test_an_export_that_fails_leaves_what_was_there(tmp_path: Path, release: Path, exported: Path) -> None:
    code = (
        "import errno, os, sys, executor.cli.main as m\n"
        "def full(*_): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "os.fsync = full; sys.exit(m.main(sys.argv[1:]))"
    )
    kept = exported.read_bytes()
    command = [sys.executable, "-I", "-c", code, "trust", "export", "--out", str(exported)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "No space" in done.stderr, exported.read_bytes()) == (30, True, kept)
    assert executor("trust", "export", "--out", str(tmp_path / "absent/trust.json")).returncode == 21
    (tmp_path / "link").symlink_to(exported)
    exported.write_text("old")
    assert executor("trust", "export", "--out", str(tmp_path / "link")).returncode == 0
    assert ((tmp_path / "link").is_symlink(), exported.read_bytes()) == (True, kept)
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)
    assert executor("trust", "export", "--out", str(tmp_path / "pipe")).returncode == 0
    assert (reader.communicate(timeout=60)[0], (tmp_path / "pipe").is_fifo()) == (kept, True)


@pytest.mark.parametrize("config", [None, "[]", "{}", "[" * 100_000, "trusted_root", "no services"])
def test_keyless_needs_a_configuration_with_services(tmp_path: Path, release: Path, config: str | None) -> None:
    path = tmp_path / "config.json"
    root = json.loads(executor("trust", "export", "--form", "trusted-root").stdout)
    if config == "trusted_root":
        path.write_text(json.dumps(root))
    elif config == "no services":
        path.write_text(executor("trust", "export", "--form", "client-trust-config").stdout)
    elif config is not None:
        path.write_text(config)
    who = ("--identity", "a", "--issuer", "b", "--token-variable", "TOKEN", "--replace")
    refused = executor("trust", "init", "--mode", "keyless", "--trust-config", str(path), *who)
    assert (refused.returncode, "Traceback" in refused.stderr) == (21, False)
    assert "mode: local" in executor("trust", "show").stdout


def test_encrypted_keys_need_their_passphrase(home: Path) -> None:
    assert executor("trust", "init", "--encrypt", EXECUTOR_TRUST_PASSPHRASE="correct horse").returncode == 0
    assert json.loads(executor("trust", "show", "--json").stdout)["encrypted"] is True
    assert executor("trust", "rotate").returncode == 32
    assert executor("trust", "rotate", EXECUTOR_TRUST_PASSPHRASE="wrong").returncode == 32
    assert executor("trust", "rotate", EXECUTOR_TRUST_PASSPHRASE="correct horse").returncode == 0


def schema(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(executor("schema", name).stdout))


def test_what_is_printed_is_as_its_schema_says(tmp_path: Path, home: Path, release: Path) -> None:
    verification, error, status = schema("verification"), schema("error"), schema("trust-status")
    folder = home / "log/run-1"
    folder.mkdir(parents=True)
    domain = open_or_create(Home(home).trust, now=datetime.now(UTC))
    write_record(
        folder, make_record("run-1", [("a", "0" * 64, 1)], allowed=False), signer=domain, now=datetime.now(UTC)
    )
    one = str(release / "artifacts/a.txt")
    whole, alone = [str(release)], ["--artifact", one]
    for good in (whole, alone, ["--record", str(folder)], ["--record", f"{folder}/record.json"]):
        verification.validate(json.loads(executor("verify", *good, "--json").stdout))
    for bad in ([str(folder)], [str(tmp_path / "absent")], [*alone, "--name", "artifacts/b"]):
        error.validate(json.loads(executor("verify", *bad, "--json").stdout))
    assert "--record" in executor("verify", str(folder)).stderr
    kept = tmp_path / "kept.json"
    kept.write_text(executor("trust", "show", "--json").stdout)
    executor("trust", "rotate")
    for since in ([], ["--since", str(kept)]):
        status.validate(json.loads(executor("trust", "show", *since, "--json").stdout))
    schema("trust-log").validate(json.loads(executor("trust", "log", "--epoch", "1", "--json").stdout))
    executor("trust", "init", "--mode", "key", "--replace")
    status.validate(json.loads(executor("trust", "show", "--json").stdout))
    key = open_signer(Home(home).trust, now=datetime.now(UTC), passphrase=None)
    signed = make_release(tmp_path, key, "by-key")
    verification.validate(json.loads(executor("verify", str(signed), "--json").stdout))


SIGN = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from signing.local import open_or_create
from signing.statement import Statement
domain = open_or_create(Path(sys.argv[1]), now=datetime.now(UTC))
domain.sign([Statement(subjects={"a": "0" * 64}, predicate_type="urn:x", predicate={})], now=datetime.now(UTC))
"""


def connects(tmp_path: Path, command: list[str]) -> list[str]:
    """Run a command, and return its system calls that open or use a socket."""
    trace = tmp_path / "trace"
    watched = "trace=socket,connect,bind,sendto,sendmsg,sendmmsg"
    done = subprocess.run(["strace", "-f", "-qq", "-e", watched, "-o", str(trace), *command], check=False)
    assert done.returncode == 0
    return trace.read_text().splitlines()


def test_signing_and_verifying_connect_to_nothing(tmp_path: Path, release: Path, exported: Path) -> None:
    alone = [sys.executable, "-I"]
    talks = "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"
    assert any("connect(" in line for line in connects(tmp_path, [*alone, "-c", talks])), "or this test sees nothing"
    assert connects(tmp_path, [*alone, "-c", SIGN, str(tmp_path / "trust")]) == []
    verify = [*alone, "-m", "executor", "verify", str(release), "--trust-root", str(exported)]
    assert connects(tmp_path, verify) == []
