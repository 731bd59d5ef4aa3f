"""The trust domain on disk: made once, private, and growing only at its end."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from signing.errors import TrustDomainError
from signing.evidence import verify_bundle
from signing.local import LocalTrustDomain, open_or_create
from tests.unit.signing.conftest import expectations
from tests.unit.signing.test_bundle import by_certificate, sign

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def test_a_domain_is_made_at_first_use_and_opened_after(tmp_path: Path) -> None:
    first = open_or_create(tmp_path / "t", now=NOW)
    assert open_or_create(tmp_path / "t", now=NOW).identity == first.identity
    assert open_or_create(tmp_path / "u", now=NOW).identity != first.identity


def test_two_first_uses_at_once_make_one_domain(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: open_or_create(tmp_path / "t", now=NOW).identity, range(8)))
    assert len(set(found)) == 1


def test_private_keys_are_the_owners_alone(domain: LocalTrustDomain) -> None:
    keys = sorted(domain.folder.glob("epochs/1/*.key"))
    assert [k.name for k in keys] == ["ca.key", "ctlog.key", "tlog.key"]
    assert {k.stat().st_mode & 0o777 for k in keys} == {0o600}
    assert domain.folder.stat().st_mode & 0o777 == 0o700


def test_a_key_that_others_can_read_is_not_used(domain: LocalTrustDomain) -> None:
    (domain.folder / "epochs/1/tlog.key").chmod(0o640)
    with pytest.raises(TrustDomainError, match="read by others"):
        open_or_create(domain.folder, now=NOW)


@pytest.mark.parametrize("name", ["domain.json", "epochs/1/ca.pem", "epochs/1/ca.key"])
def test_a_damaged_domain_is_not_used(domain: LocalTrustDomain, name: str) -> None:
    (domain.folder / name).write_bytes(b"damaged")
    with pytest.raises(TrustDomainError):
        open_or_create(domain.folder, now=NOW)


def test_a_half_made_domain_is_made_anew(tmp_path: Path) -> None:
    first = open_or_create(tmp_path / "t", now=NOW)
    (tmp_path / "t/domain.json").unlink()
    second = open_or_create(tmp_path / "t", now=NOW)
    assert second.identity != first.identity
    verify_bundle(sign(second), expectations(second), file="a")


def test_the_log_grows_by_one_for_each_statement_under_concurrency(domain: LocalTrustDomain) -> None:
    with ThreadPoolExecutor(8) as pool:
        bundles = list(pool.map(lambda _: sign(domain), range(24)))
    assert sorted(by_certificate(b).entry.index for b in bundles) == list(range(24))
    for bundle in bundles:
        verify_bundle(bundle, expectations(domain), file="a")
