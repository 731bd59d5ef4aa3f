"""Verify the record of a run, a denial's or a failure's among them, with the statements beside it. Offline."""

from datetime import datetime
from pathlib import Path

from signing.chain import PARENTS_OF, PREDICATE_OF, parents_in, run_id_in
from signing.encoding import sha256_hex
from signing.errors import VerificationError
from signing.evidence import BundleVerifier, Evidence, Expectations
from signing.layout import read_small
from signing.manifest import BUNDLE_SUFFIX, stage_path
from signing.statement import PREDICATE_RECORD
from signing.value import Value
from signing.verify import read_bundle

RECORD = "record.json"


class VerifiedRecord(Value):
    """What was found to hold.

    Attributes:
        run_id: The run.
        status: How it ended.
        stages: The statements that it left.
        signed_at: When the record was logged; None where a bare key signed.
    """

    run_id: str
    status: str
    stages: tuple[str, ...]
    signed_at: datetime | None


def verify_record(folder: Path, expect: Expectations) -> VerifiedRecord:
    """Verify a run's folder in the log: its record, and each statement that the record names.

    Raises:
        VerificationError: Some check does not hold; it names the check and the file.
    """
    verifier = BundleVerifier(expect)
    name = f"{RECORD}{BUNDLE_SUFFIX}"
    own = verifier.verify(read_bundle(folder, name), file=name)
    subjects = {RECORD: sha256_hex(read_small(folder, RECORD))}
    if own.statement.predicate_type != PREDICATE_RECORD or dict(own.statement.subjects) != subjects:
        raise VerificationError(f"statement is not about this {RECORD}: {name}", check="STATEMENT", file=name)
    try:
        predicate = own.statement.predicate
        run_id, status = str(predicate["run_id"]), str(predicate["status"])
        named = parents_in("record", predicate)
        _check_statements(folder, verifier, named, run_id)
    except (KeyError, TypeError, AttributeError, ValueError) as err:
        raise VerificationError(f"record's statement is malformed: {err}", check="CHAIN", file=name) from err
    return VerifiedRecord(run_id=run_id, status=status, stages=tuple(named), signed_at=own.signed_at)


def _check_statements(folder: Path, verifier: BundleVerifier, named: dict[str, str], run_id: str) -> None:
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
