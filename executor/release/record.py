"""The run record: written and signed for every run that was admitted, releases, denials and failures alike.

Beside it lie the statements of the run, as far as it came, and the record's own statement names each of them.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from executor.release.statements import chain_of
from signing.chain import parent
from signing.encoding import canonical_json, sha256_hex
from signing.files import make_folder, write_whole
from signing.manifest import ATTESTATIONS, BUNDLE_SUFFIX, RECORD, stage_path
from signing.signer import Signer
from signing.statement import PREDICATE_RECORD, Statement

SCHEMA = "executor.record/v1"
_MODE = 0o600


def write_record(folder: Path, record: Mapping[str, Any], *, signer: Signer, now: datetime) -> Path:
    """Sign a record and the run's statements, and write it with them.

    Args:
        folder: The run's folder in the log. A record without a signature, left by an executor that died, is replaced.
        record: Plain JSON; the schema is added here.
        signer: Signs it.
        now: Time of signing.

    Returns:
        Where the record lies.

    Raises:
        SigningError: It could not be signed. Nothing was written.
    """
    data = _to_bytes(record)
    chain = chain_of(record)
    claim = {
        "run_id": record["run_id"],
        "status": record["status"],
        "parents": [parent(stage, statement) for stage, statement in chain.items()],
    }
    own = Statement(subjects={RECORD: sha256_hex(data)}, predicate_type=PREDICATE_RECORD, predicate=claim)
    *bundles, last = signer.sign([*chain.values(), own], now=now)
    path = folder / RECORD
    write_whole(path, data, mode=_MODE)
    make_folder(folder / ATTESTATIONS, mode=0o700, exist_ok=True)
    for stage, bundle in zip(chain, bundles, strict=True):
        write_whole(folder / stage_path(stage), bundle.to_bytes(), mode=_MODE)
    write_whole(folder / f"{RECORD}{BUNDLE_SUFFIX}", last.to_bytes(), mode=_MODE)
    return path


def write_unsigned(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write the record of a run that could not be signed. Nobody believes it but whoever reads it on this host."""
    path = folder / RECORD
    write_whole(path, _to_bytes(record), mode=_MODE)
    return path


def _to_bytes(record: Mapping[str, Any]) -> bytes:
    return canonical_json({"schema": SCHEMA, **record})


def is_recorded(folder: Path) -> bool:
    """Whether a run's folder holds a record with its signature, which is the last to be written."""
    return (folder / f"{RECORD}{BUNDLE_SUFFIX}").exists()
