"""`executor verify` as pipelines call it: whom and what to expect, by options and by a policy file."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from signing.manifest import own_bundle_path
from signing.modes import choose_key
from tests.contract.conftest import Call, executor
from tests.unit.signing.conftest import BUILDER, IMAGE, POLICY


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


HEAVY = ("cryptography.x509", "dataclasses", "pydantic", "docker", "requests", "yaml", "sigstore", "rich", "tomllib")


def test_verifying_imports_nothing_that_is_slow_to(release: Path, exported: Path) -> None:
    command = f"verify {release} --trust-root {exported}".split()
    code = (
        "import sys, executor.cli.main as m; code = m.main(sys.argv[1:]); "
        f"print([n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code, *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")
