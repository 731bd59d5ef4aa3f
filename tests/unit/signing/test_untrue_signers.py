"""Bundles that a trusted authority certified and a trusted log took, and that do not hold all the same."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from signing import authority, local
from signing.bundle import ByKey, log_body
from signing.certificate import OID_ISSUER_V2
from signing.encoding import canonical_json
from signing.errors import VerificationError
from signing.evidence import verify_bundle
from signing.local import LocalTrustDomain
from signing.modes import choose_key, open_signer
from signing.statement import Statement
from signing.value import replaced

ONE = Statement(subjects={"a": "0" * 64}, predicate_type="urn:x", predicate={})


def refusal(domain: LocalTrustDomain) -> VerificationError:
    (bundle,) = domain.sign([ONE], now=datetime.now(UTC))
    with pytest.raises(VerificationError) as refused:
        verify_bundle(bundle, domain.expectations(), file="a")
    return refused.value


def test_a_log_that_took_another_signature_does_not_make_it_one(
    domain: LocalTrustDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "pae", lambda kind, payload: b"other bytes")
    assert refusal(domain).check == "SIGNATURE"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"7",
        b"[]",
        b"{}",
        canonical_json({"spec": []}),
        canonical_json({"spec": {"envelopeHash": {"value": "\ud800"}}}),
    ],
)
def test_an_entry_that_is_none_is_refused(
    domain: LocalTrustDomain, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(local, "log_body", lambda **_: body)
    assert refusal(domain).check == "LOG"


def test_an_entry_of_another_payload_is_refused(domain: LocalTrustDomain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "log_body", lambda **k: log_body(**k | {"payload": b"other"}))
    assert refusal(domain).check == "LOG"


@pytest.mark.parametrize("left_out", ["subjectAltName", OID_ISSUER_V2])
def test_a_certificate_that_names_nobody_is_refused(
    domain: LocalTrustDomain, monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    build: Callable[..., x509.CertificateBuilder] = authority._leaf_builder

    def without(*arguments: Any) -> x509.CertificateBuilder:
        whole = build(*arguments)
        throwaway = whole.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        builder = (
            x509.CertificateBuilder()
            .subject_name(throwaway.subject)
            .issuer_name(throwaway.issuer)
            .public_key(arguments[0])
            .serial_number(throwaway.serial_number)
            .not_valid_before(throwaway.not_valid_before_utc)
            .not_valid_after(throwaway.not_valid_after_utc)
        )
        for extension in throwaway.extensions:
            if left_out not in (extension.oid._name, extension.oid.dotted_string):
                builder = builder.add_extension(extension.value, extension.critical)
        return builder

    monkeypatch.setattr(authority, "_leaf_builder", without)
    assert refusal(domain).check == "IDENTITY"


def test_a_signature_by_another_key_than_the_hinted_one_is_refused(tmp_path: Path) -> None:
    signers = []
    for name in ("one", "two"):
        choose_key(tmp_path / name, key=None, passphrase=None)
        signers.append(open_signer(tmp_path / name, now=datetime.now(UTC), passphrase=None))
    one, two = (signer.sign([ONE], now=datetime.now(UTC))[0] for signer in signers)
    expect = signers[0].expectations()
    (hint,) = expect.keys
    other = replaced(ONE, predicate={"x": 1}).to_bytes()
    for forged in (replaced(two, signer=ByKey(hint=hint)), replaced(one, payload=other), replaced(one, signature=b"")):
        with pytest.raises(VerificationError) as refused:
            verify_bundle(forged, expect, file="a")
        assert refused.value.check == "SIGNATURE"


def test_a_key_that_nobody_expects_is_refused(domain: LocalTrustDomain, tmp_path: Path) -> None:
    signers = []
    for name in ("one", "two"):
        choose_key(tmp_path / name, key=None, passphrase=None)
        signers.append(open_signer(tmp_path / name, now=datetime.now(UTC), passphrase=None))
    (bundle,) = signers[0].sign([ONE], now=datetime.now(UTC))
    verify_bundle(bundle, signers[0].expectations(), file="a")
    for other in (signers[1], domain):
        with pytest.raises(VerificationError) as refused:
            verify_bundle(bundle, other.expectations(), file="a")
        assert refused.value.check == "IDENTITY"
