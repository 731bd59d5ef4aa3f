"""Bundles: mutated field by field, and accepted by the stock Sigstore client."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sigstore.models import Bundle as StockBundle
from sigstore.models import TrustedRoot
from sigstore.verify import Verifier, policy

from signing.bundle import Bundle, ByCertificate, parse_bundle
from signing.domain import TRUSTED_ROOT
from signing.encoding import canonical_json, encode_base64
from signing.errors import TrustDomainError, VerificationError
from signing.evidence import verify_bundle
from signing.local import LocalTrustDomain, open_or_create
from signing.statement import PREDICATE_ARTIFACT, Statement
from tests.unit.signing.conftest import expectations

STATEMENT = Statement(subjects={"a": "0" * 64}, predicate_type=PREDICATE_ARTIFACT, predicate={"role": "data"})


def sign(domain: LocalTrustDomain, *, times: int = 1, now: datetime | None = None) -> Bundle:
    return [domain.sign([STATEMENT], now=now or datetime.now(UTC))[0] for _ in range(times)][-1]


def by_certificate(bundle: Bundle) -> ByCertificate:
    assert isinstance(bundle.signer, ByCertificate)
    return bundle.signer


@pytest.mark.parametrize("times", [1, 2, 3, 7, 8])
def test_the_stock_client_accepts_what_this_project_signs(domain: LocalTrustDomain, times: int) -> None:
    bundle = sign(domain, times=times)
    verifier = Verifier(trusted_root=TrustedRoot.from_file(str(domain.folder / TRUSTED_ROOT)))
    identity = policy.Identity(identity=domain.identity.subject, issuer=domain.identity.issuer)
    kind, payload = verifier.verify_dsse(StockBundle.from_json(bundle.to_bytes()), identity)
    assert (kind, payload) == ("application/vnd.in-toto+json", STATEMENT.to_bytes())
    assert verify_bundle(parse_bundle(bundle.to_bytes()), expectations(domain), file="a").statement == STATEMENT


def test_a_bundle_survives_its_own_form(domain: LocalTrustDomain) -> None:
    bundle = sign(domain)
    assert parse_bundle(bundle.to_bytes()) == bundle


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in leaves(v, (*path, k))]
    if isinstance(value, list):
        return [p for i, v in enumerate(value) for p in leaves(v, (*path, i))]
    return [path]


def put(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for step in path[:-1]:
        document = document[step]
    document[path[-1]] = value


def get(document: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


def test_every_field_of_a_bundle_is_bound(domain: LocalTrustDomain) -> None:
    """Whatever value of another valid bundle is put in, and whatever is made up, the bundle is refused."""
    expect = expectations(domain)
    good, other = (json.loads(sign(domain, times=3).to_bytes()) for _ in range(2))
    tried = 0
    for path in leaves(good):
        original = get(good, path)
        foreign = get(other, path) if path in leaves(other) else None
        for value in (foreign, "", "1", None, 0, original + "x", original[:-1], original + original):
            if value == original:
                continue
            mutated = json.loads(json.dumps(good))
            put(mutated, path, value)
            tried += 1
            with pytest.raises((ValueError, VerificationError)):
                verify_bundle(parse_bundle(canonical_json(mutated)), expect, file="a")
    assert tried > 120


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(extra=1),
        lambda d: d["verificationMaterial"]["tlogEntries"].append(d["verificationMaterial"]["tlogEntries"][0]),
        lambda d: d["verificationMaterial"]["tlogEntries"].clear(),
        lambda d: d["dsseEnvelope"]["signatures"].append(d["dsseEnvelope"]["signatures"][0]),
        lambda d: d["dsseEnvelope"]["signatures"][0].update(keyid="x"),
        lambda d: d["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["hashes"].append(
            encode_base64(bytes(32))
        ),
        lambda d: d["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["hashes"].pop(),
    ],
)
def test_a_bundle_with_more_or_less_than_its_parts_is_refused(
    domain: LocalTrustDomain, change: Callable[[Any], None]
) -> None:
    document = json.loads(sign(domain, times=3).to_bytes())
    change(document)
    with pytest.raises((ValueError, VerificationError)):
        verify_bundle(parse_bundle(canonical_json(document)), expectations(domain), file="a")


def test_a_bundle_in_another_layout_or_with_a_repeated_key_is_refused(domain: LocalTrustDomain) -> None:
    raw = sign(domain).to_bytes()
    for changed in (json.dumps(json.loads(raw), indent=1).encode(), b'{"mediaType":"x",' + raw[1:], raw + b" "):
        with pytest.raises(ValueError, match="canonical"):
            parse_bundle(changed)


def test_a_signature_outside_of_the_certificates_ten_minutes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    domain = open_or_create(tmp_path / "old", now=start)
    append = LocalTrustDomain._append

    def sign_after(delay: timedelta) -> Bundle:
        with monkeypatch.context() as patch:
            patch.setattr(LocalTrustDomain, "_append", lambda it, keys, what, now: append(it, keys, what, now + delay))
            return sign(domain, now=start)

    inside, outside = sign_after(timedelta(minutes=10)), sign_after(timedelta(minutes=10, seconds=1))
    verify_bundle(inside, expectations(domain), file="a")
    with pytest.raises(VerificationError, match="not valid at the time"):
        verify_bundle(outside, expectations(domain), file="a")


def test_a_signature_back_dated_before_the_authority_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    domain = open_or_create(tmp_path / "old", now=start)
    with pytest.raises(TrustDomainError, match="before the epoch"):
        sign(domain, now=start - timedelta(days=1))
    monkeypatch.setattr(LocalTrustDomain, "_within_the_open_epoch", lambda _, now: now)  # as a thief would
    bundle = sign(domain, now=start - timedelta(days=1))
    with pytest.raises(VerificationError) as refused:
        verify_bundle(bundle, expectations(domain), file="a")
    assert refused.value.check == "CERTIFICATE"
