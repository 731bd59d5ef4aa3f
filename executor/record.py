"""The run record: written and signed for every run that was admitted, releases, denials and failures alike."""

import os
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
        folder: The run's folder in the log. A record without a signature, left by an executor that died, is replaced.
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
    _put(path, data)
    claim = {"run_id": record["run_id"], "status": record["status"]}
    statement = Statement(subjects={RECORD: sha256_hex(data)}, predicate_type=PREDICATE_RECORD, predicate=claim)
    with domain.signer(now=now) as signer:
        _put(folder / f"{RECORD}{BUNDLE_SUFFIX}", signer.sign(statement).to_bytes())
    return path


def is_recorded(folder: Path) -> bool:
    """Whether a run's folder holds a record with its signature, which is the last to be written."""
    return (folder / f"{RECORD}{BUNDLE_SUFFIX}").exists()


def _put(path: Path, data: bytes) -> None:
    """Write a whole file or none."""
    staged = path.with_name(f"{path.name}.partial")
    with staged.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
