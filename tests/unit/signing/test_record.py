"""The record of a run, whose statements and what it says itself must agree, whoever signed them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from executor.release.record import write_record
from signing.bundle import parse_bundle
from signing.encoding import canonical_json, sha256_hex
from signing.errors import VerificationError
from signing.evidence import Expectations
from signing.manifest import BUNDLE_SUFFIX, RECORD, stage_path
from signing.modes import choose_key, open_signer
from signing.pem import expect_keys
from signing.record import verify_record
from signing.signer import Signer
from tests.unit.signing.conftest import make_record
from tests.unit.signing.forging import payload_of, sign_over

OWN = f"{RECORD}{BUNDLE_SUFFIX}"
Change = Callable[[dict[str, Any]], object]


class Recorded:
    """A denial's record, and two keys that may both sign."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "log"
        self.folder.mkdir()
        self.signers: list[Signer] = []
        for name in ("one", "two"):
            choose_key(folder / name, key=None, passphrase=None)
            self.signers.append(open_signer(folder / name, now=datetime.now(UTC), passphrase=None))
        self.expect: Expectations = expect_keys([folder / "one/public.pem", folder / "two/public.pem"])
        record = make_record("run-1", [("a", "1" * 64, 1)], allowed=False)
        write_record(self.folder, record, signer=self.signers[0], now=datetime.now(UTC))

    def sign_anew(self, *, record: Change = bool, claim: Change = bool) -> None:
        """Change the record and its own statement, and sign that rightly."""
        document = json.loads((self.folder / RECORD).read_bytes())
        record(document)
        (self.folder / RECORD).write_bytes(canonical_json(document))
        statement = json.loads(payload_of_own(self.folder))
        claim(statement["predicate"])
        statement["subject"][0]["digest"]["sha256"] = sha256_hex((self.folder / RECORD).read_bytes())
        sign_over(self.folder, OWN, canonical_json(statement), self.signers[0])

    def refusal(self) -> VerificationError:
        with pytest.raises(VerificationError) as refused:
            verify_record(self.folder, self.expect)
        return refused.value


def payload_of_own(folder: Path) -> bytes:
    return parse_bundle((folder / OWN).read_bytes()).payload


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def test_a_record_names_its_run_its_end_its_statements_and_its_signer(recorded: Recorded) -> None:
    recorded.sign_anew()
    found = verify_record(recorded.folder, recorded.expect)
    assert (found.run_id, found.status) == ("run-1", "denied")
    assert found.stages == ("request", "sandbox", "decision", "summary")
    assert found.signer == (next(iter(recorded.signers[0].expectations().keys)), "")


CHANGES: dict[str, dict[str, Change]] = {
    "another run": {"record": lambda r: r.update(run_id="run-2")},
    "another run in the statement": {"claim": lambda c: c.update(run_id="run-2")},
    "another end": {"record": lambda r: r.update(status="released")},
    "another end in both": {
        "record": lambda r: r.update(status="released"),
        "claim": lambda c: c.update(status="released"),
    },
    "another plan": {"record": lambda r: r["plan"].update(seed=2)},
    "another decision": {"record": lambda r: r["decision"].update(findings=[])},
    "no decision": {"record": lambda r: r.pop("decision")},
    "no statements": {"claim": lambda c: c.update(parents=[])},
    "no request": {"claim": lambda c: c["parents"].pop(0)},
    "statements in another order": {"claim": lambda c: c["parents"].reverse()},
    "a statement twice": {"claim": lambda c: c["parents"].append(c["parents"][0])},
    "another digest": {"claim": lambda c: c["parents"][1]["digest"].update(sha256="0" * 64)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_does_not_agree_is_refused_though_rightly_signed(recorded: Recorded, change: dict[str, Change]) -> None:
    recorded.sign_anew(**change)
    assert recorded.refusal().check == "CHAIN"


def test_one_signer_signs_all_of_it(recorded: Recorded) -> None:
    sign_over(recorded.folder, stage_path("summary"), payload_of(recorded.folder, "summary"), recorded.signers[1])
    refused = recorded.refusal()
    assert (refused.check, "somebody else" in refused.message) == ("CHAIN", True)


def test_a_record_of_another_run_does_not_take_its_place(recorded: Recorded, tmp_path: Path) -> None:
    other = make_record("run-2", [("a", "1" * 64, 1)], allowed=False)
    (tmp_path / "other").mkdir()
    write_record(tmp_path / "other", other, signer=recorded.signers[0], now=datetime.now(UTC))
    for name in (RECORD, OWN, stage_path("sandbox")):
        original = (recorded.folder / name).read_bytes()
        (recorded.folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
        assert recorded.refusal().check in ("STATEMENT", "CHAIN")
        (recorded.folder / name).write_bytes(original)
    verify_record(recorded.folder, recorded.expect)


def test_a_changed_record_is_not_the_one_that_was_signed(recorded: Recorded) -> None:
    path = recorded.folder / RECORD
    path.write_bytes(path.read_bytes().replace(b'"exit_code"', b'"exit_cod3"') + b" ")
    assert recorded.refusal().check == "STATEMENT"


def test_a_statement_of_another_run_is_refused_though_the_record_names_it(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_record(
        tmp_path / "other",
        make_record("run-2", [("a", "1" * 64, 1)], allowed=False),
        signer=recorded.signers[0],
        now=datetime.now(UTC),
    )
    name = stage_path("request")
    (recorded.folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
    digest = sha256_hex(payload_of(tmp_path / "other", "request"))
    recorded.sign_anew(claim=lambda c: c["parents"][0]["digest"].update(sha256=digest))
    refused = recorded.refusal()
    assert (refused.check, "of another run" in refused.message) == ("CHAIN", True)
