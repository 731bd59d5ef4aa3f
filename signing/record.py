"""Verify the record of a run, a denial's or a failure's among them, with the statements beside it. Offline."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from signing.chain import PARENTS_OF, PREDICATE_OF, parents_in, run_id_in
from signing.encoding import canonical_json, parse_canonical_json, sha256_hex
from signing.errors import VerificationError
from signing.evidence import BundleVerifier, Evidence, Expectations
from signing.layout import read_small
from signing.manifest import BUNDLE_SUFFIX, PLAN, RECORD, stage_path
from signing.statement import PREDICATE_RECORD, Statement
from signing.value import Value
from signing.verify import depth_bounded, read_bundle

_ALLOWED = {"released": True, "denied": False}


class VerifiedRecord(Value):
    """What was found to hold.

    Attributes:
        run_id: The run.
        status: How it ended.
        stages: The statements that it left.
        signer: Identity and issuer, or a key's hint.
        signed_at: When the record was logged; None where a bare key signed.
    """

    run_id: str
    status: str
    stages: tuple[str, ...]
    signer: tuple[str, str]
    signed_at: datetime | None


def verify_record(folder: Path, expect: Expectations) -> VerifiedRecord:
    """Verify a run's folder in the log: its record, and each statement that the record names.

    Raises:
        VerificationError: Some check does not hold; it names the check and the file.
    """
    with depth_bounded():
        return _verify_record(folder, BundleVerifier(expect))


def _verify_record(folder: Path, verifier: BundleVerifier) -> VerifiedRecord:
    name = f"{RECORD}{BUNDLE_SUFFIX}"
    own = verifier.verify(read_bundle(folder, name), file=name)
    raw = read_small(folder, RECORD)
    if own.statement.predicate_type != PREDICATE_RECORD or dict(own.statement.subjects) != {RECORD: sha256_hex(raw)}:
        raise VerificationError(f"statement is not about this {RECORD}: {name}", check="STATEMENT", file=name)
    try:
        record, predicate = parse_canonical_json(raw), own.statement.predicate
        run_id, status = str(predicate["run_id"]), str(predicate["status"])
        if (record["run_id"], record["status"]) != (run_id, status):
            raise ValueError("it is about another run, or another end of it")
        named = parents_in("record", predicate)
        found = _verify_statements(folder, verifier, named, run_id)
        _check_agreement(record, {stage: evidence.statement for stage, evidence in found.items()})
    except (KeyError, TypeError, AttributeError, ValueError) as err:
        raise VerificationError(f"record's statement is malformed: {err}", check="CHAIN", file=name) from err
    if {evidence.signer for evidence in found.values()} != {own.signer}:
        raise VerificationError("record is signed by somebody else than its statements", check="CHAIN", file=name)
    return VerifiedRecord(run_id=run_id, status=status, stages=tuple(named), signer=own.signer, signed_at=own.signed_at)


def _verify_statements(
    folder: Path, verifier: BundleVerifier, named: Mapping[str, str], run_id: str
) -> dict[str, Evidence]:
    found: dict[str, Evidence] = {}
    for stage, digest in named.items():
        file = stage_path(stage)
        found[stage] = evidence = verifier.verify(read_bundle(folder, file), file=file)
        predicate = evidence.statement.predicate
        kept = {name: found[name].payload_sha256 for name in PARENTS_OF[stage] if name in named}
        if evidence.payload_sha256 != digest or evidence.statement.predicate_type != PREDICATE_OF[stage]:
            raise VerificationError(f"statement is not the one that the record names: {file}", check="CHAIN", file=file)
        if run_id_in(stage, predicate) != run_id or parents_in(stage, predicate) != kept:
            raise VerificationError(f"statement is of another run: {file}", check="CHAIN", file=file)
    return found


def _check_agreement(record: Mapping[str, Any], said: Mapping[str, Statement]) -> None:
    """Hold the statements against what the record says of plan and decision.

    Raises:
        ValueError: They differ. So does KeyError: every run was requested.
    """
    if dict(said["request"].subjects) != {PLAN: sha256_hex(canonical_json(record["plan"]))}:
        raise ValueError("another plan was requested")
    decided = said["decision"].predicate["decision"] if "decision" in said else None
    if decided != record.get("decision"):
        raise ValueError("another decision was made")
    if record["status"] in _ALLOWED and (decided is None or decided["allowed"] is not _ALLOWED[record["status"]]):
        raise ValueError("the decision is not that of a run that ended so")
