"""The run record: written and signed for every run that was admitted, releases, denials and failures alike."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from signing.encoding import canonical_json, sha256_hex
from signing.local import LocalTrustDomain
from signing.manifest import BUNDLE_SUFFIX
from signing.statement import PREDICATE_RECORD, Statement

SCHEMA = "executor.record/v1"
RECORD = "record.json"


def write_record(folder: Path, record: Mapping[str, Any], *, domain: LocalTrustDomain, now: datetime) -> Path:
    """Write a record and its signature bundle.

    Args:
        folder: The run's folder in the log. Must not hold a record yet.
        record: Plain JSON; the schema is added here.
        domain: Signs it.
        now: Time of signing.

    Returns:
        Where the record lies.

    Raises:
        SigningError: It could not be signed. The record itself is kept.
    """
    data = canonical_json({"schema": SCHEMA, **record})
    path = folder / RECORD
    with path.open("xb") as file:
        file.write(data)
    claim = {"run_id": record["run_id"], "status": record["status"]}
    statement = Statement(subjects={RECORD: sha256_hex(data)}, predicate_type=PREDICATE_RECORD, predicate=claim)
    with domain.signer(now=now) as signer:
        (folder / f"{RECORD}{BUNDLE_SUFFIX}").write_bytes(signer.sign(statement).to_bytes())
    return path
