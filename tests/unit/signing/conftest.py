"""A trust domain and a signed release for the signing tests."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from executor.release import ReleaseContent, release
from signing.domain import TRUSTED_ROOT
from signing.local import LocalTrustDomain, open_or_create
from signing.trust import load_trust_root
from signing.verify import Expectations
from tests.unit.signing.approved import approved


@dataclass(frozen=True)
class Signed:
    """A release with what it takes to verify it."""

    folder: Path
    domain: LocalTrustDomain
    expect: Expectations


@pytest.fixture
def domain(tmp_path: Path) -> LocalTrustDomain:
    return open_or_create(tmp_path / "trust", now=datetime.now(UTC))


def expectations(domain: LocalTrustDomain) -> Expectations:
    trust = load_trust_root(domain.folder / TRUSTED_ROOT)
    return Expectations(trust=trust, subject=domain.identity.subject, issuer=domain.identity.issuer)


@pytest.fixture
def signed(tmp_path: Path, domain: LocalTrustDomain) -> Signed:
    return Signed(make_release(tmp_path, domain, "release"), domain, expectations(domain))


def make_release(tmp_path: Path, domain: LocalTrustDomain, name: str) -> Path:
    content = ReleaseContent(
        run_id=name,
        formats={"a.txt": "text", "sub/b.txt": "text"},
        plan={"schema": "plan"},
        decision={"allowed": True},
        details={"seed": 1},
        provenance={"buildDefinition": {}, "runDetails": {}},
    )
    target = tmp_path / name
    release(
        approved(tmp_path),
        content,
        target=target,
        domain=domain,
        now=lambda: datetime.now(UTC),
        before_naming=lambda _: None,
    )
    return target
