"""What the look at one artifact may take, on machines of any speed."""

from importlib import import_module
from typing import Any

import pytest

from executor.job.plan import _INSPECTION_LIMITS

bounds: Any = import_module("worker.bounds")


@pytest.mark.parametrize(
    ("start", "cpu_seconds"),
    [(0.0, 8), (0.33, 8), (0.34, 9), (0.68, 17), (1.36, 32), (60.0, 32)],
)
def test_the_bound_grows_with_what_this_process_took_to_start(start: float, cpu_seconds: int) -> None:
    assert bounds.bounds_after(start).cpu_seconds == cpu_seconds


@pytest.mark.parametrize("start", [0.0, 1.0, 60.0])
def test_one_artifact_denies_itself_before_the_inspection_ends(start: float) -> None:
    assert bounds.bounds_after(start).wall_seconds < _INSPECTION_LIMITS.wall_seconds
