"""A job's metrics, as it claims them: named numbers. What is not one is left out, and said to be."""

import math
from collections.abc import Mapping
from typing import Any

from executor.sandbox.intake import PROGRESS_NAME
from executor.text import printable

_METRICS_MAX = 256
_TOLD_MAX = 8
_NAME_SHOWN = 80


def take_metrics(result: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """Return the metrics of a job's result, and a warning for each that is left out, or for all of them.

    Args:
        result: The worker's result message. Untrusted.
    """
    claimed = result.get("metrics", {})
    if not isinstance(claimed, dict):
        return {}, ["metrics are left out: they are not named numbers"]
    if len(claimed) > _METRICS_MAX:
        return {}, [f"metrics are left out, all {len(claimed)} of them: at most {_METRICS_MAX} are recorded"]
    taken, left_out = {}, []
    for name, value in claimed.items():
        if not PROGRESS_NAME.fullmatch(name):
            left_out.append((name, "a name is 1 to 64 letters, digits and any of _ . -"))
        elif (number := _number(value)) is None:
            left_out.append((name, "only finite numbers are recorded"))
        else:
            taken[name] = number
    warnings = [f"metric {printable(name)[:_NAME_SHOWN]!r} is left out: {why}" for name, why in left_out[:_TOLD_MAX]]
    if len(left_out) > _TOLD_MAX:
        warnings.append(f"{len(left_out) - _TOLD_MAX} more metrics are left out")
    return taken, warnings


def _number(value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
