"""Two approved artifacts, by way of the gate."""

import hashlib
from pathlib import Path

from executor.gate import Approved, approve
from executor.transfer.quarantine import Artifact
from policy.decision import Decision


def approved(folder: Path) -> Approved:
    artifacts = []
    for name, data in (("a.txt", b"alpha"), ("sub/b.txt", b"beta")):
        path = folder / name.replace("/", "_")
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        artifacts.append(Artifact(name=name, role="data", size=len(data), sha256=digest, path=path))
    return approve(Decision(findings=(), artifacts=tuple((a.name, a.sha256) for a in artifacts)), artifacts)
