"""Ten thousand mutated archives of torch and numpy: what the inventory accepts, zipfile and torch read the same."""

import json

from tests.integration.conftest import SCRIPTS, Host

COUNT = 10_000


def test_what_is_accepted_every_reader_takes_for_the_same(host: Host) -> None:
    folder = host.folder / "code"
    folder.mkdir()
    for name in ("mutate", "mutations"):
        (folder / f"{name}.py").write_text((SCRIPTS / f"{name}.py").read_text())
    job = host.script_job(
        "mutate",
        {"name": "report.json", "role": "report"},
        code={"path": str(folder), "entry": "mutate.py"},
        params={"count": COUNT},
        seed=11,
        limits={"wall_seconds": 1200, "idle_seconds": 300, "memory_bytes": 1 << 30},
    )
    done, target = host.run(job)
    assert done.code == 0, done.stderr
    report = json.loads((target / "artifacts/report.json").read_text())
    assert report["tried"] == COUNT + 4
    assert report["disagreements"] == []
    assert all(report["whole"].values()), "an archive that nobody touched was refused"
    assert min(report["accepted"].values()) > 20
