"""Kind `script`: run the caller's own Python file."""

import runpy
import sys
from typing import Any

from worker.job import CODE, Job, make_current


def run(job: Job) -> dict[str, Any]:
    """Run the entry file as `__main__`, with its own folder importable."""
    assert job.entry is not None, "the plan gives every script job its code"
    make_current(job)
    entry = CODE / job.entry
    sys.path.insert(0, str(entry.parent))
    sys.argv = [str(entry)]
    runpy.run_path(str(entry), run_name="__main__")
    return {"metrics": job.claims}
