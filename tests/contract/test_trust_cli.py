"""`executor trust` and `executor verify` as pipelines call them: codes, streams, and nothing reached over a network."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from executor.home import Home
from executor.record import write_record
from signing.local import open_or_create
from signing.manifest import own_bundle_path
from signing.modes import choose_key, open_signer
from tests.unit.signing.conftest import BUILDER, IMAGE, POLICY, make_record, make_release

Call = subprocess.CompletedProcess[str]


def executor(*arguments: str, **environment: str) -> Call:
    command = [sys.executable, "-I", "-m", "executor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.fixture
def release(tmp_path: Path, home: Path) -> Path:
    return make_release(tmp_path, open_or_create(Home(home).trust, now=datetime.now(UTC)), "release")


@pytest.fixture
def exported(tmp_path: Path, release: Path) -> Path:
    path = tmp_path / "trust.json"
    assert executor("trust", "export", "--out", str(path)).returncode == 0
    return path


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


@pytest.mark.parametrize(
    ("options", "code", "check"),
    [
        (["--builder", BUILDER, "--image", f"sha256:{IMAGE}", "--policy-digest", POLICY], 0, ""),
        (["--profile", "standard"], 0, ""),
        (["--builder-pattern", "urn:sealed-executor:builder:runc:.*"], 0, ""),
        (["--builder-pattern", "builder"], 23, "BUILDER"),
        (["--identity-pattern", "urn:sealed-executor:local:.*:executor"], 0, ""),
        (["--identity-pattern", "sealed-executor"], 23, "IDENTITY"),
        (["--issuer-pattern", ".*x"], 23, "IDENTITY"),
        (["--image", "0" * 64], 23, "IMAGE"),
        (["--policy-digest", "0" * 64], 23, "POLICY"),
        (["--profile", "lenient"], 23, "PROFILE"),
        (["--require", "reproduced"], 23, "REPRODUCED"),
        (["--image", "latest"], 21, ""),
        (["--identity-pattern", "("], 21, ""),
        (["--identity", "a", "--identity-pattern", "b"], 21, ""),
        (["--require", "luck"], 21, ""),
        (["--accept", "identical"], 21, ""),
        (["--profile", ""], 21, ""),
    ],
)
def test_expectations_by_option(release: Path, exported: Path, options: list[str], code: int, check: str) -> None:
    done = executor("verify", str(release), "--trust-root", str(exported), *options, "--json")
    assert (done.returncode, json.loads(done.stdout).get("error", {}).get("check", "")) == (code, check), done.stderr


POLICY_FILE = f"""
schema = "executor.verification-policy/v1"
[[signer]]
key = "strange.pem"
[[signer]]
trust_root = "trust.json"
[release]
builder_pattern = "urn:sealed-executor:builder:.*"
image = "sha256:{IMAGE}"
policy = "{POLICY}"
profile = "standard"
"""


@pytest.fixture
def by_policy(tmp_path: Path, release: Path, exported: Path) -> Callable[[str], Call]:
    choose_key(tmp_path / "strange", key=None, passphrase=None)
    (tmp_path / "strange.pem").write_bytes((tmp_path / "strange/public.pem").read_bytes())

    def call(text: str) -> Call:
        (tmp_path / "policy.toml").write_text(text)
        return executor("verify", str(release), "--policy", str(tmp_path / "policy.toml"), "--json")

    return call


def test_expectations_by_file(by_policy: Callable[[str], Call]) -> None:
    assert by_policy(POLICY_FILE).returncode == 0


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("standard", "lenient", 23),
        ('[[signer]]\ntrust_root = "trust.json"', "", 23),
        (POLICY, "0" * 64, 23),
        ("profile =", "profil =", 21),
        ("/v1", "/v9", 21),
        ('trust_root = "trust.json"', 'trust_root = "trust.json"\nidentity = ""', 21),
        ("[release]", "[reproduced]\nthreshold = 0\n[release]", 21),
        ("[release]", '[reproduced]\nthreshold = "1"\n[release]', 21),
        ("[release]", "[reproduced]\nthreshold = 1\n[release]", 23),
        ("[release]", '[[reproducer]]\nkey = "strange.pem"\n[release]', 21),
        ("[release]", "release", 21),
        ('key = "strange.pem"', 'key = "absent.pem"', 23),
    ],
)
def test_a_policy_that_says_otherwise_refuses(by_policy: Callable[[str], Call], old: str, new: str, code: int) -> None:
    assert old in POLICY_FILE
    done = by_policy(POLICY_FILE.replace(old, new, 1))
    assert (done.returncode, json.loads(done.stdout)["exit_code"]) == (code, code), done.stderr


def test_a_policy_stands_for_all_options(tmp_path: Path, release: Path) -> None:
    done = executor("verify", str(release), "--policy", str(tmp_path / "p"), "--profile", "standard")
    assert (done.returncode, "leave --profile out" in done.stderr) == (21, True)


def test_one_artifact_is_verified_with_its_bundle_wherever_they_lie(tmp_path: Path, release: Path) -> None:
    inside = executor("verify", "--artifact", str(release / "artifacts/sub/b.txt"), "--json")
    assert (inside.returncode, json.loads(inside.stdout)["run_id"]) == (0, "release"), inside.stderr
    alone = tmp_path / "renamed.txt"
    alone.write_bytes((release / "artifacts/a.txt").read_bytes())
    assert executor("verify", "--artifact", str(alone)).returncode == 21
    for bundle in ("attestations/artifacts/a.txt.sigstore.json", "attestations/release.sigstore.json"):
        assert executor("verify", "--artifact", str(alone), "--bundle", str(release / bundle)).returncode == 0
    whole = str(release / "attestations/release.sigstore.json")
    by_name = executor("verify", "--artifact", str(alone), "--bundle", whole, "--name", "artifacts/a.txt", "--json")
    assert (by_name.returncode, json.loads(by_name.stdout)["names"]) == (0, ["artifacts/a.txt"])
    unset = executor("verify", "--artifact", str(alone), "--bundle", whole, "--name", "")
    assert (unset.returncode, "unset" in unset.stderr) == (21, True)
    otherwise = executor("verify", "--artifact", str(alone), "--bundle", whole, "--name", "artifacts/sub/b.txt")
    assert (otherwise.returncode, "is not artifacts/sub/b.txt" in otherwise.stderr) == (23, True)
    for bundle in ("attestations/artifacts/sub/b.txt.sigstore.json", "attestations/request.sigstore.json"):
        assert executor("verify", "--artifact", str(alone), "--bundle", str(release / bundle)).returncode == 23
    alone.write_bytes(b"other")
    beside = Path(f"{alone}.sigstore.json")
    beside.write_bytes((release / "attestations/artifacts/a.txt.sigstore.json").read_bytes())
    refused = executor("verify", "--artifact", str(alone), "--json")
    assert (refused.returncode, json.loads(refused.stdout)["error"]["check"]) == (23, "STATEMENT")


def test_artifacts_that_changed_places_with_their_bundles_are_refused(release: Path) -> None:
    names = ("artifacts/a.txt", "artifacts/sub/b.txt")
    for one, two in (names, map(own_bundle_path, names)):
        first, second = (release / one).read_bytes(), (release / two).read_bytes()
        (release / one).write_bytes(second)
        (release / two).write_bytes(first)
    refused = executor("verify", "--artifact", str(release / "artifacts/a.txt"), "--json")
    assert (refused.returncode, json.loads(refused.stdout)["error"]["check"]) == (23, "STATEMENT")


def test_an_artifact_in_a_release_is_the_one_of_its_name_however_it_is_named(tmp_path: Path, release: Path) -> None:
    (release / "artifacts/a.txt").write_bytes((release / "artifacts/sub/b.txt").read_bytes())
    (tmp_path / "link").symlink_to(release)
    whole, own = "attestations/release.sigstore.json", "attestations/artifacts/a.txt.sigstore.json"
    ways = [
        (release, "artifacts/a.txt", str(release / whole)),
        (release / "artifacts", "a.txt", f"../{whole}"),
        (release, "artifacts/a.txt", str(tmp_path / "link" / whole)),
        (tmp_path, "link/artifacts/a.txt", str(release / whole)),
        (release / "artifacts/sub", "../a.txt", f"../../{whole}"),
    ]
    for folder, file, bundle in ways:
        command = [sys.executable, "-I", "-m", "executor", "verify", "--artifact", file, "--bundle", bundle]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        assert (done.returncode, "was released as artifacts/sub/b.txt" in done.stderr) == (23, True), done.stderr
    (release / own).unlink()
    (release / "artifacts/a.txt.sigstore.json").write_bytes(
        (release / own_bundle_path("artifacts/sub/b.txt")).read_bytes()
    )
    assert executor("verify", "--artifact", str(release / "artifacts/a.txt")).returncode == 23


@pytest.mark.parametrize("demand", [["--profile", "standard"], ["--require", "reproduced"], ["--modes", "executable"]])
def test_what_is_demanded_of_releases_cannot_go_unheeded_on_less(
    release: Path, exported: Path, demand: list[str], tmp_path: Path
) -> None:
    artifact, known = str(release / "artifacts/a.txt"), ["--trust-root", str(exported)]
    assert executor("verify", "--artifact", artifact, *known).returncode == 0
    for less in (["--artifact", artifact], ["--record", str(tmp_path)]):
        refused = executor("verify", *less, *known, *demand)
        assert (refused.returncode, "demanded of a release" in refused.stderr) == (21, True)
    (tmp_path / "policy.toml").write_text(POLICY_FILE.replace('[[signer]]\nkey = "strange.pem"\n', ""))
    refused = executor("verify", "--artifact", artifact, "--policy", str(tmp_path / "policy.toml"))
    assert (refused.returncode, "demanded of a release" in refused.stderr) == (21, True)


@pytest.mark.parametrize("arguments", [(), ("a", "--artifact", "b"), ("a", "--bundle", "b")])
def test_one_thing_is_verified_at_a_time(arguments: tuple[str, ...]) -> None:
    assert executor("verify", *arguments).returncode == 21


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


@pytest.mark.parametrize("option", ["--trust-root", "--key", "--policy"])
def test_what_is_no_file_that_ends_is_not_waited_for(tmp_path: Path, release: Path, option: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        refused = executor("verify", str(release), option, str(path))
        assert (refused.returncode, "plain file" in refused.stderr) == (21 if option == "--policy" else 23, True)


def test_a_link_to_a_trust_root_is_followed(tmp_path: Path, release: Path, exported: Path) -> None:
    (tmp_path / "link").symlink_to(exported)
    assert executor("verify", str(release), "--trust-root", str(tmp_path / "link")).returncode == 0


HEAD = 'schema = "executor.verification-policy/v1"\n'
SIGNER = '[[signer]]\ntrust_root = "absent.json"\n'


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("a = " + "[" * 3000 + "]" * 3000, "depth"),
        ("", "schema is None"),
        (HEAD, "no signer is named"),
        (HEAD + "signer = 7", "list of tables"),
        (HEAD + "signer = [7]", "list of tables"),
        (HEAD + "[[signer]]", "signer 1 names neither"),
        (HEAD + SIGNER + "[[signer]]\nkey = 7", "signer 2's key is not a string"),
        (HEAD + SIGNER + '[[signer]]\nkey = ""', "signer 2's key is not a string"),
        (HEAD + SIGNER + 'identity = "a"\nidentity_pattern = "b"', "both exactly and by a pattern"),
        (HEAD + SIGNER + 'keys = "a"', "signer 1 has an unknown field 'keys'"),
        (HEAD + "release = 7\n" + SIGNER, "release is not a table"),
        (HEAD + SIGNER + "[release]\nbuilder = 7", "release's builder is not a string"),
        (HEAD + SIGNER + '[release]\nimage = "x"', "not a sha256"),
        (HEAD + SIGNER + "[reproduced]", "threshold is not a whole number from 1 on: None"),
        (HEAD + SIGNER + "[reproduced]\nthreshold = true", "threshold is not a whole number"),
        (HEAD + SIGNER + "[reproduced]\nthreshold = 1\naccept = []", "accept lists some of"),
        (HEAD + SIGNER + '[reproduced]\nthreshold = 1\naccept = ["different"]', "accept lists some of"),
        (HEAD + SIGNER + "[reproduced]\nthreshold = 1\natol = inf", "atol is not a finite number"),
        (HEAD + SIGNER + "[reproduced]\nthreshold = 1\nrtol = '1'", "rtol is not a finite number"),
        (HEAD + SIGNER + "[[reproducer]]\nkey = 'a'", "no number of them is wanted"),
    ],
)
def test_a_strange_policy_is_refused_for_what_it_is(tmp_path: Path, policy: str, why: str) -> None:
    """Whatever files it names: that they are missing is not what is wrong with it."""
    (tmp_path / "policy.toml").write_text(policy)
    refused = executor("verify", str(tmp_path), "--policy", str(tmp_path / "policy.toml"))
    assert (refused.returncode, why in refused.stderr, "Traceback" in refused.stderr) == (21, True, False)


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
    assert (reader.communicate(timeout=10)[0], (tmp_path / "pipe").is_fifo()) == (kept, True)


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


HEAVY = ("cryptography.x509", "dataclasses", "pydantic", "docker", "requests", "yaml", "sigstore", "rich", "tomllib")


def test_verifying_imports_nothing_that_is_slow_to(release: Path, exported: Path) -> None:
    command = f"verify {release} --trust-root {exported}".split()
    code = (
        "import sys, executor.cli.main as m; code = m.main(sys.argv[1:]); "
        f"print([n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code, *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")


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
