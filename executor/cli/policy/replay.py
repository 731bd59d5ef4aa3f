"""`executor policy replay RECORD`: make a recorded decision again, from the record alone, and compare the bytes.

It does not check the record's signature: that is in the bundle beside it.
"""

import argparse
import json
from pathlib import Path
from typing import Any, TextIO

from executor import __version__
from executor.cli.policy.reading import print_result
from executor.errors import RequestError
from executor.exits import Exit
from executor.inspection.decision import decide_again, sarif
from signing.encoding import canonical_json, sha256_hex

SCHEMA = "executor.policy-replay/v1"
_RECORD_BYTES_MAX = 64 << 20


def execute(args: argparse.Namespace, out: TextIO) -> int:
    """Replay one record."""
    record = _read(args.record)
    again = decide_again(record)
    same = canonical_json(again) == canonical_json(record["decision"])
    code = Exit.RELEASED if same else Exit.VERIFICATION_FAILED
    if args.sarif is not None:
        args.sarif.write_text(json.dumps(sarif(again, version=__version__), indent=2) + "\n", encoding="utf-8")
    document = {
        "schema": SCHEMA,
        "status": "same" if same else "differs",
        "exit_code": int(code),
        "recorded_sha256": sha256_hex(canonical_json(record["decision"])),
        "replayed_sha256": sha256_hex(canonical_json(again)),
        "decision": again,
    }
    lines = [f"{f['rule']}: {f['artifact']}: {f['place']}: {f['detail']}" for f in again["findings"]]
    lines.append("allowed" if again["allowed"] else "denied")
    lines.append("the same as recorded" if same else "NOT what was recorded")
    print_result(out, document, "\n".join(lines), as_json=args.json)
    return int(code)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_RECORD_BYTES_MAX + 1)
        record = json.loads(data) if len(data) <= _RECORD_BYTES_MAX else None
    except (OSError, ValueError, RecursionError) as err:
        raise RequestError(f"not a readable record: {path}: {err}") from err
    if not isinstance(record, dict) or record.get("schema") != "executor.record/v1":
        raise RequestError(f"not a record: {path}", hint="name the record.json of a run")
    return record
