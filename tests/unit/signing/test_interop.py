"""Bundles of every trust mode, held against the stock clients: sigstore-python and @sigstore/verify."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sigstore.models import Bundle as StockBundle
from sigstore.models import TrustedRoot
from sigstore.verify import Verifier, policy

from executor.cli.trust.export import client_config
from signing.choice import TRUST_CONFIG
from signing.domain import TRUSTED_ROOT
from signing.errors import SigningError, VerificationError
from signing.key import KeySigner
from signing.keyless import KeylessSigner, TokenSource, token_source
from signing.local import LocalTrustDomain
from signing.modes import choose_key, choose_keyless, open_signer
from signing.verify import verify_release
from tests.fakes.services import IDENTITY, ISSUER, identity_token, js_verify, running_sigstore
from tests.unit.signing.conftest import make_release

NOW = datetime(2026, 11, 24, tzinfo=UTC)
TOKEN = "EXECUTOR_TEST_TOKEN"


@pytest.fixture(scope="module")
def trust_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with running_sigstore(tmp_path_factory.mktemp("sigstore")) as config:
        yield config


@pytest.fixture
def keyless(trust_config: Path, monkeypatch: pytest.MonkeyPatch) -> KeylessSigner:
    monkeypatch.setenv(TOKEN, identity_token())
    return KeylessSigner(trust_config, token=TokenSource(variable=TOKEN), subject=IDENTITY, issuer=ISSUER)


def bundles_of(release: Path) -> list[Path]:
    return sorted(release.rglob("*.sigstore.json"))


def stock_accepts(bundle: Path, root: TrustedRoot, identity: str, issuer: str) -> None:
    expected = policy.Identity(identity=identity, issuer=issuer)
    kind, payload = Verifier(trusted_root=root).verify_dsse(StockBundle.from_json(bundle.read_bytes()), expected)
    assert kind == "application/vnd.in-toto+json"
    assert json.loads(payload)["_type"] == "https://in-toto.io/Statement/v1"


def test_stock_clients_accept_every_bundle_of_a_local_release(tmp_path: Path, domain: LocalTrustDomain) -> None:
    release = make_release(tmp_path, domain, "release")
    path, who = domain.folder / TRUSTED_ROOT, domain.identity
    bundles = bundles_of(release)
    assert len(bundles) == 8
    for bundle in bundles:
        stock_accepts(bundle, TrustedRoot.from_file(str(path)), who.subject, who.issuer)
    root = json.loads(path.read_bytes())
    found = js_verify(bundles, trusted_root=root, identity=who.subject, issuer=who.issuer)
    assert set(found.values()) == {"ok"}
    refused = js_verify(bundles, trusted_root=root, identity=who.subject + "x", issuer=who.issuer)
    assert "ok" not in refused.values()


def test_the_javascript_client_accepts_every_bundle_of_a_key(tmp_path: Path) -> None:
    choose_key(tmp_path / "trust", key=None, passphrase=None)
    signer = open_signer(tmp_path / "trust", now=NOW, passphrase=None)
    assert isinstance(signer, KeySigner)
    bundles = bundles_of(make_release(tmp_path, signer, "release"))
    lines = (tmp_path / "trust/public.pem").read_text().splitlines()[1:-1]
    keys = {signer.hint: base64.b64decode("".join(lines))}
    nobody: dict[str, list[object]] = {
        "tlogs": [],
        "certificateAuthorities": [],
        "ctlogs": [],
        "timestampAuthorities": [],
    }
    assert set(js_verify(bundles, trusted_root=nobody, keys=keys).values()) == {"ok"}


def test_a_keyless_release_verifies_here_and_with_stock_clients(
    tmp_path: Path, trust_config: Path, keyless: KeylessSigner
) -> None:
    release = make_release(tmp_path, keyless, "release")
    verified = verify_release(release, keyless.expectations())
    assert verified.signer == (IDENTITY, ISSUER)
    assert "LOG" in verified.made
    root = json.loads(trust_config.read_bytes())["trustedRoot"]
    (tmp_path / "root.json").write_text(json.dumps(root))
    for bundle in bundles_of(release):
        stock_accepts(bundle, TrustedRoot.from_file(str(tmp_path / "root.json")), IDENTITY, ISSUER)
    found = js_verify(bundles_of(release), trusted_root=root, identity=IDENTITY, issuer=ISSUER)
    assert set(found.values()) == {"ok"}


def test_a_keyless_release_of_somebody_else_is_refused(
    tmp_path: Path, keyless: KeylessSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, identity_token(subject="https://jobs.example.org/other"))
    with pytest.raises(VerificationError) as refused:
        make_release(
            tmp_path, keyless, "release"
        )  # which verifies what it made, and lets nothing be that does not hold
    assert refused.value.check == "IDENTITY"
    assert not (tmp_path / "release").exists()


@pytest.mark.parametrize("token", ["", "x", identity_token(seconds=-60), identity_token(audience="elsewhere")])
def test_a_token_that_will_not_do_is_refused(
    tmp_path: Path, keyless: KeylessSigner, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(TOKEN, token)
    with pytest.raises(SigningError) as refused:
        make_release(tmp_path, keyless, "release")
    assert token == "" or token not in str(refused.value)
    assert not (tmp_path / "release").exists()


def test_a_token_comes_from_a_file_as_well(tmp_path: Path, trust_config: Path) -> None:
    (tmp_path / "token").write_text(identity_token() + "\n")
    signer = KeylessSigner(
        trust_config, token=TokenSource(file=str(tmp_path / "token")), subject=IDENTITY, issuer=ISSUER
    )
    make_release(tmp_path, signer, "release")
    (tmp_path / "token").unlink()
    with pytest.raises(SigningError, match="cannot read the identity token"):
        make_release(tmp_path, signer, "other")


def test_services_that_do_not_answer_are_an_error(
    tmp_path: Path, trust_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads(trust_config.read_bytes())
    for name in ("caUrls", "rekorTlogUrls"):
        config["signingConfig"][name][0]["url"] = "http://127.0.0.1:9"  # discard: nobody listens
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv(TOKEN, identity_token())
    signer = KeylessSigner(tmp_path / "config.json", token=TokenSource(variable=TOKEN), subject=IDENTITY, issuer=ISSUER)
    with pytest.raises(SigningError, match="did not sign"):
        make_release(tmp_path, signer, "release")


def test_a_keyless_choice_is_kept(tmp_path: Path, trust_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, identity_token())
    source = TokenSource(variable=TOKEN)
    choose_keyless(
        tmp_path / "trust",
        trust_config=trust_config.read_bytes(),
        token=source.to_wire(),
        identity=IDENTITY,
        issuer=ISSUER,
    )
    signer = open_signer(tmp_path / "trust", now=NOW, passphrase=None)
    assert (signer.mode, (tmp_path / "trust" / TRUST_CONFIG).exists()) == ("keyless", True)
    assert token_source(source.to_wire()) == source
    make_release(tmp_path, signer, "release")


@pytest.mark.parametrize("given", [{}, {"variable": "A", "file": "b"}, {"file": "b", "ambient": True}])
def test_a_token_comes_from_one_place(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="identity token comes from"):
        TokenSource(**given)  # type: ignore[arg-type]


def model_signing(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_signing", "verify", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_model_signing_verifies_what_is_signed_in_its_format(
    tmp_path: Path, trust_config: Path, keyless: KeylessSigner, domain: LocalTrustDomain, home: Path
) -> None:
    choose_key(tmp_path / "key-trust", key=None, passphrase=None)
    root = json.loads((domain.folder / TRUSTED_ROOT).read_bytes())
    config = tmp_path / "config.json"
    config.write_text(json.dumps(client_config(root)))
    for name, signer, options in (
        ("local", domain, as_sigstore(config, domain.identity.subject, domain.identity.issuer)),
        ("keyless", keyless, as_sigstore(trust_config, IDENTITY, ISSUER)),
        (
            "key",
            open_signer(tmp_path / "key-trust", now=NOW, passphrase=None),
            ["key", "--public_key", str(tmp_path / "key-trust/public.pem")],
        ),
    ):
        release = make_release(tmp_path, signer, name, also_oms=True)
        verify_release(release, signer.expectations())
        check = [*options, "--signature", str(release / "model.sig"), str(release / "artifacts")]
        done = model_signing(*check)
        assert done.returncode == 0, done.stderr + done.stdout
        (release / "artifacts/a.txt").write_text("changed")
        assert model_signing(*check).returncode != 0
        (release / "artifacts/a.txt").write_text("alpha")
        (release / "model.sig").unlink()
        with pytest.raises(VerificationError, match="file is missing"):
            verify_release(release, signer.expectations())


def as_sigstore(config: Path, identity: str, issuer: str) -> list[str]:
    return ["sigstore", "--trust_config", str(config), "--identity", identity, "--identity_provider", issuer]
