"""What the look at one artifact may take, on a machine of any speed."""

import math
from dataclasses import dataclass

CPU_SECONDS_MIN, CPU_SECONDS_MAX = 8, 32
# The same artifact must come to the same decision on a slow machine. What this process needed to import its readers is
# the measure of the machine: 0.34 s where 8 s are right (2026-11, two cores).
_CPU_PER_START = 24
_WALL_PER_CPU = 9  # for a machine that is busy with other work; the longest is less than an inspection's wall limit


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the look at one artifact may take, in seconds."""

    cpu_seconds: int
    wall_seconds: int


def bounds_after(start_seconds: float) -> Bounds:
    """Return the bounds for a machine on which this process took so much CPU time to start."""
    cpu = min(max(CPU_SECONDS_MIN, math.ceil(_CPU_PER_START * start_seconds)), CPU_SECONDS_MAX)
    return Bounds(cpu_seconds=cpu, wall_seconds=_WALL_PER_CPU * cpu)
