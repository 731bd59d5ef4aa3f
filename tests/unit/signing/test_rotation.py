"""Rotation and revocation: what was signed before stays valid; what old keys sign after is not, whatever its date.

The thief of these tests has the whole trust folder as it was, keys and log, and the true clock or any other.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from signing.bundle import Bundle, ByCertificate, LogEntry, parse_bundle
from signing.domain import TRUST_DOCUMENT, TRUSTED_ROOT
from signing.epochs import log_host
from signing.errors import TrustDomainError, TrustRequestError, VerificationError
from signing.evidence import verify_bundle
from signing.expect import expected_signer
from signing.files import staged_path
from signing.local import LocalTrustDomain, _head_signer, open_or_create
from signing.manifest import stage_path
from signing.statement import Statement
from signing.trust import load_trust_root
from signing.verify import verify_release
from tests.fakes.services import js_verify
from tests.unit.signing.conftest import make_release
from tests.unit.signing.forging import sign_chain_anew, sign_over

DAY = timedelta(days=1)
START = datetime.now(UTC) - 10 * DAY


@pytest.fixture
def domain(tmp_path: Path) -> LocalTrustDomain:
    """A domain that is ten days old."""
    return open_or_create(tmp_path / "trust", now=START)


class At:
    """A signer with its own idea of what time it is."""

    mode = "local"

    def __init__(self, domain: LocalTrustDomain, moment: datetime) -> None:
        self._domain, self._moment = domain, moment
        self.sign = lambda statements, *, now: domain.sign(statements, now=moment)
        self.expectations = domain.expectations


def released(folder: Path, domain: LocalTrustDomain, moment: datetime, name: str) -> Path:
    return make_release(folder, At(domain, moment), name)


def steal(domain: LocalTrustDomain, folder: Path) -> LocalTrustDomain:
    shutil.copytree(domain.folder, folder)
    return open_or_create(folder, now=START)


def stock_verdicts(domain: LocalTrustDomain, release: Path) -> set[bool]:
    """What @sigstore/verify says of each bundle of a release."""
    root = json.loads((domain.folder / TRUSTED_ROOT).read_bytes())
    who, bundles = domain.identity, sorted(release.rglob("*.sigstore.json"))
    found = js_verify(bundles, trusted_root=root, identity=who.subject, issuer=who.issuer)
    return {said == "ok" for said in found.values()}


def refusal(release: Path, domain: LocalTrustDomain) -> VerificationError:
    with pytest.raises(VerificationError) as refused:
        verify_release(release, domain.expectations())
    return refused.value


def test_the_rotation_drill(tmp_path: Path, domain: LocalTrustDomain) -> None:
    old = [released(tmp_path, domain, START + i * DAY, f"old-{i}") for i in range(5)]
    thief = steal(domain, tmp_path / "stolen")
    domain.rotate(now=START + 5 * DAY)
    assert list(domain.folder.glob("epochs/1/*.key")) == []
    new = [released(tmp_path, domain, START + (6 + i) * DAY, f"new-{i}") for i in range(3)]
    for release in (*old, *new):
        assert verify_release(release, domain.expectations()).signer[0] == domain.identity.subject
        assert stock_verdicts(domain, release) == {True}
    for i in range(5):
        late = released(tmp_path, thief, START + (6 + i) * DAY / 2 + 3 * DAY, f"late-{i}")
        assert refusal(late, domain).check in ("LOG", "CERTIFICATE")
        assert stock_verdicts(domain, late) == {False}


def test_what_the_old_keys_date_back_is_refused(tmp_path: Path, domain: LocalTrustDomain) -> None:
    """As clients that know windows alone cannot tell: the entry is not one that the closed log had."""
    released(tmp_path, domain, START, "old")
    thief = steal(domain, tmp_path / "stolen")
    domain.rotate(now=START + 5 * DAY)
    back_dated = released(tmp_path, thief, START + DAY, "back-dated")
    assert refusal(back_dated, domain).check == "REVOKED"
    windows = expected_signer(
        load_trust_root(domain.folder / TRUSTED_ROOT), identity=domain.identity.subject, issuer=domain.identity.issuer
    )
    assert "REVOKED" in verify_release(back_dated, windows).not_made, "which is said, for it was not checked"
    assert "REVOKED" in verify_release(tmp_path / "old", domain.expectations()).made
    assert stock_verdicts(domain, back_dated) == {True}, "or the trust document would not be needed"


def test_a_past_that_was_made_up_with_the_old_keys_is_refused(tmp_path: Path, domain: LocalTrustDomain) -> None:
    """The thief starts the log anew, so that index and size are ones that the true log had as well."""
    released(tmp_path, domain, START + DAY, "old")
    thief = steal(domain, tmp_path / "stolen")
    domain.rotate(now=START + 5 * DAY)
    keys = thief._open_keys()
    sign_head = _head_signer(keys.private["tlog"], log_host("tlog", thief.domain_id, 1))
    thief.log(1).create(sign_head=sign_head)
    forged = released(tmp_path, thief, START + DAY, "forged")
    entry = entry_of(forged)
    assert (entry.leaf, entry.size) == (entry_of(tmp_path / "old").leaf, entry_of(tmp_path / "old").size)
    assert refusal(forged, domain).check == "REVOKED"


def entry_of(release: Path) -> LogEntry:
    signer = parse_bundle((release / stage_path("release")).read_bytes()).signer
    assert isinstance(signer, ByCertificate)
    return signer.entry


def test_an_entry_of_a_foreign_log_is_refused(tmp_path: Path, domain: LocalTrustDomain) -> None:
    """The true authority's certificate, in a log that nobody trusts."""
    release = released(tmp_path, domain, START, "release")
    thief = steal(domain, tmp_path / "stolen")
    other = open_or_create(tmp_path / "other", now=START)
    for name in ("tlog.key", "tlog.spki"):
        shutil.copy(other.folder / "epochs/1" / name, thief.folder / "epochs/1" / name)
    shutil.copytree(other.folder / "epochs/1/log", thief.folder / "epochs/1/log", dirs_exist_ok=True)
    thief._keys = None  # read anew
    sign_chain_anew(release, thief, {}, now=START)
    assert refusal(release, domain).check == "LOG"


def test_one_statement_by_the_old_keys_is_enough_to_refuse(tmp_path: Path, domain: LocalTrustDomain) -> None:
    release = released(tmp_path, domain, START, "release")
    thief = steal(domain, tmp_path / "stolen")
    domain.rotate(now=START + DAY)
    payload = parse_bundle((release / stage_path("summary")).read_bytes()).payload
    sign_over(release, stage_path("summary"), payload, thief, now=START)
    assert (refusal(release, domain).check, refusal(release, domain).file) == ("REVOKED", stage_path("summary"))


def test_revocation_spares_what_was_before(tmp_path: Path, domain: LocalTrustDomain) -> None:
    good = released(tmp_path, domain, START, "good")
    stolen_at = domain.log(1).head().size
    bad = [released(tmp_path, domain, START + (1 + i) * DAY, f"bad-{i}") for i in range(3)]
    domain.revoke(epoch=1, from_index=stolen_at, reason="keys were on a stolen disk", now=START + 5 * DAY)
    verify_release(good, domain.expectations())
    assert stock_verdicts(domain, good) == {True}
    for release in bad:
        assert refusal(release, domain).check in ("REVOKED", "LOG", "CERTIFICATE")
        assert stock_verdicts(domain, release) == {False}
    later = released(tmp_path, domain, START + 6 * DAY, "later")
    verify_release(later, domain.expectations())


def test_a_closed_epoch_can_be_revoked_further(tmp_path: Path, domain: LocalTrustDomain) -> None:
    good = released(tmp_path, domain, START, "good")
    stolen_at = domain.log(1).head().size
    bad = released(tmp_path, domain, START + DAY, "bad")
    domain.rotate(now=START + 2 * DAY)
    verify_release(bad, domain.expectations())
    domain.revoke(epoch=1, from_index=stolen_at, reason="found later", now=START + 5 * DAY)
    assert len(domain.epochs()) == 2
    verify_release(good, domain.expectations())
    assert refusal(bad, domain).check in ("REVOKED", "LOG", "CERTIFICATE")


@pytest.mark.parametrize(("epoch", "index"), [(1, 99), (1, -1), (2, 0), (0, 0)])
def test_what_is_not_there_cannot_be_revoked(domain: LocalTrustDomain, epoch: int, index: int) -> None:
    with pytest.raises(TrustRequestError):
        domain.revoke(epoch=epoch, from_index=index, reason="", now=START + DAY)
    assert len(domain.epochs()) == 1


def test_a_whole_epoch_can_be_revoked(tmp_path: Path, domain: LocalTrustDomain) -> None:
    bad = released(tmp_path, domain, START + DAY, "bad")
    domain.revoke(epoch=1, from_index=0, reason="keys were public from the start", now=START + 2 * DAY)
    assert refusal(bad, domain).check in ("REVOKED", "LOG", "CERTIFICATE")
    assert stock_verdicts(domain, bad) == {False}


def test_a_rotation_that_dies_anywhere_is_finished_or_undone_by_the_next_opening(
    tmp_path: Path, domain: LocalTrustDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = released(tmp_path, domain, START, "old")
    replace = os.replace
    died = 0
    for step in range(1, 40):
        folder = tmp_path / f"copy-{step}"
        shutil.copytree(domain.folder, folder)
        left = [step]

        def die(source: str, target: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            replace(source, target)

        it = open_or_create(folder, now=START)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", die)
            try:
                it.rotate(now=START + DAY)
            except KeyboardInterrupt:
                died += 1
        again = open_or_create(folder, now=START + DAY)
        expect = expected_signer(load_trust_root(folder / TRUST_DOCUMENT))
        verify_release(old, expect)
        fresh = released(tmp_path, again, START + 2 * DAY, f"fresh-{step}")
        verify_release(fresh, again.expectations())
        keys = sorted(p.parent.name for p in folder.glob("epochs/*/ca.key"))
        assert str(again.epochs()[-1].number) in keys
        assert all(int(k) >= again.epochs()[-1].number for k in keys), "closed epochs have no keys"
    assert 10 < died < 39


def test_keys_can_be_encrypted_at_rest(tmp_path: Path) -> None:
    domain = open_or_create(tmp_path / "t", now=START, passphrase=b"correct horse")
    assert domain.encrypted()
    for key in domain.folder.glob("epochs/*/*.key"):
        assert b"ENCRYPTED" in key.read_bytes()
    released(tmp_path, domain, START, "release")
    for passphrase in (None, b"wrong"):
        with pytest.raises(TrustDomainError, match=r"encrypted|passphrase"):
            open_or_create(tmp_path / "t", now=START, passphrase=passphrase)
    domain.rotate(now=START + DAY)
    assert domain.encrypted()


def test_a_domain_can_be_encrypted_later(tmp_path: Path, domain: LocalTrustDomain) -> None:
    assert not domain.encrypted()
    again = open_or_create(domain.folder, now=START, passphrase=b"correct horse")
    again.encrypt_keys()
    assert again.encrypted()
    with pytest.raises(TrustDomainError, match="encrypted"):
        open_or_create(domain.folder, now=START)
    released(tmp_path, open_or_create(domain.folder, now=START, passphrase=b"correct horse"), START, "release")


def statement(name: str) -> Statement:
    return Statement(subjects={name: "0" * 64}, predicate_type="urn:x", predicate={})


def check(domain: LocalTrustDomain, bundle: Bundle) -> None:
    assert verify_bundle(bundle, domain.expectations(), file="a").signer[0] == domain.identity.subject


@pytest.mark.parametrize("behind", [timedelta(0), timedelta(seconds=1), timedelta(seconds=60)])
def test_signers_and_rotations_that_took_the_time_before_they_got_the_lock_harm_nothing(
    domain: LocalTrustDomain, behind: timedelta
) -> None:
    """What was signed stays valid, and what is signed is: whoever reads the clock first may be served last."""
    moment = (START + DAY).replace(microsecond=0)
    first, second = (domain.sign([statement("a")], now=now)[0] for now in (moment, moment - behind))
    domain.rotate(now=moment - behind)
    third = domain.sign([statement("b")], now=moment - behind)[0]
    for bundle in (first, second, third):
        check(domain, bundle)
    assert domain.epochs()[0].end == domain.epochs()[1].start == moment


@pytest.mark.parametrize("use", ["sign", "rotate", "check_ready"])
def test_a_clock_that_stands_further_back_changes_nothing(domain: LocalTrustDomain, use: str) -> None:
    domain.sign([statement("a")], now=START + DAY)
    now, before = START + DAY - timedelta(seconds=62), domain.epochs()
    uses: dict[str, Callable[[], object]] = {
        "sign": lambda: domain.sign([statement("b")], now=now),
        "rotate": lambda: domain.rotate(now=now),
        "check_ready": lambda: domain.check_ready(now),
    }
    with pytest.raises(TrustDomainError, match="clock stands") as refused:
        uses[use]()
    assert "executor trust revoke" in refused.value.hint
    assert domain.epochs() == before


def test_an_entry_of_a_wrong_clock_is_revoked_and_nothing_waits_for_its_time(domain: LocalTrustDomain) -> None:
    good = domain.sign([statement("a")], now=START + DAY)[0]
    domain.sign([statement("b")], now=START + 400 * DAY)
    now = START + 2 * DAY
    domain.revoke(epoch=1, from_index=1, reason="the clock was a year ahead", now=now)
    for bundle in (good, domain.sign([statement("c")], now=now)[0]):
        check(domain, bundle)
    domain.rotate(now=now)


def test_processes_that_sign_while_others_rotate_lose_nothing(tmp_path: Path, domain: LocalTrustDomain) -> None:
    code = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path\n"
        "from signing.local import open_or_create; from signing.statement import Statement\n"
        "domain = open_or_create(Path(sys.argv[1]), now=datetime.now(UTC))\n"
        "for number in range(120):\n"
        "    one = Statement(subjects={'a': '0' * 64}, predicate_type='urn:x', predicate={'n': number})\n"
        "    (bundle,) = domain.sign([one], now=datetime.now(UTC))\n"
        "    Path(sys.argv[2], f'{number}').write_bytes(bundle.to_bytes())\n"
    )
    folder, root = tmp_path / "live", Path(__file__).parents[3]
    live = open_or_create(folder, now=datetime.now(UTC))
    places = [tmp_path / f"signer-{n}" for n in range(3)]
    running = []
    for place in places:
        place.mkdir()
        running.append(subprocess.Popen([sys.executable, "-c", code, str(folder), str(place)], cwd=root))
    rotations = 0
    while any(process.poll() is None for process in running):
        live.rotate(now=datetime.now(UTC))
        rotations += 1
        time.sleep(0.3)
    assert [process.wait() for process in running] == [0, 0, 0]
    bundles = [path for place in places for path in place.iterdir()]
    assert (len(bundles), rotations > 0) == (360, True)
    expect = live.expectations()
    for path in bundles:
        verify_bundle(parse_bundle(path.read_bytes()), expect, file=path.name)


def test_a_rotation_over_a_damaged_log_changes_nothing(domain: LocalTrustDomain) -> None:
    domain.sign([statement("a"), statement("b")], now=START)
    domain.rotate(now=START + DAY)
    tree = domain.folder / "epochs/1/log/tree"
    whole, before = tree.read_bytes(), domain.epochs()
    tree.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(TrustDomainError, match="rewritten"):
        domain.rotate(now=START + 2 * DAY)
    assert (domain.epochs(), (domain.folder / TRUST_DOCUMENT).exists()) == (before, True)
    check(domain, domain.sign([statement("c")], now=START + 2 * DAY)[0])
    tree.write_bytes(whole)
    domain.rotate(now=START + 3 * DAY)
    assert list(domain.folder.glob("epochs/2/*.key")) == []


def test_keys_that_a_dying_writer_left_beside_go_as_well(domain: LocalTrustDomain) -> None:
    left = staged_path(domain.folder / "epochs/1")
    left.write_bytes(b"a private key")
    domain.rotate(now=START + DAY)
    assert not left.exists()


@pytest.mark.parametrize(
    "name",
    [
        "ca.key",
        "ca.pem",
        "ctlog.key",
        "ctlog.spki",
        "tlog.key",
        "tlog.spki",
        "log/entries",
        "log/tree",
        "log/checkpoint",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage"])
def test_a_damaged_domain_says_so(tmp_path: Path, name: str, damage: str) -> None:
    folder = tmp_path / "trust"
    open_or_create(folder, now=START).sign([statement("a")], now=START)
    path = folder / "epochs/1" / name
    path.unlink() if damage == "missing" else path.write_bytes(b"" if damage == "empty" else b"\xff" * 90)
    if path.exists():
        path.chmod(0o600)
    (folder / TRUST_DOCUMENT).unlink()  # so that all of it is read
    with pytest.raises(TrustDomainError):
        open_or_create(folder, now=START).sign([statement("b")], now=START)
