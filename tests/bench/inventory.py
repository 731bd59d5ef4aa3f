"""What the inventory of a 200 MB artifact costs beside sha256 over it, by hand: `make bench`. CPU seconds, medians."""

import json
import os
import tempfile
from pathlib import Path

from tests.integration.conftest import Host

RUNS = 5


def main() -> None:
    """Print one table; nothing passes or fails on a time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["EXECUTOR_HOME"] = str(folder / "home")
        host = Host(folder)
        job = host.script_job(
            "inventory_times",
            {"name": "times.json", "role": "report"},
            params={"runs": RUNS},
            limits={
                "wall_seconds": 550,
                "idle_seconds": 550,
                "memory_bytes": 6 << 30,
                "tmp_bytes": 1 << 30,
                "pids": 128,
            },
        )
        done, target = host.run(job)
        if done.code != 0:
            raise SystemExit(done.stdout + done.stderr)
        times = json.loads((target / "artifacts/times.json").read_text())
    print(f"{'format':28}{'MB':>8}{'inventory':>11}{'sha256':>9}{'ratio':>8}  findings")
    for form, row in times.items():
        ratio = row["inventory"] / row["sha256"]
        numbers = f"{row['bytes'] / 1e6:8.1f}{row['inventory']:11.3f}{row['sha256']:9.3f}{ratio:8.2f}"
        print(f"{form:28}{numbers}  {', '.join(row['findings']) or 'none'}")


if __name__ == "__main__":
    main()
