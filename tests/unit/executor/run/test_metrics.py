"""A job's metrics: what is not taken is named."""

from typing import Any

import pytest

from executor.run.metrics import take_metrics


@pytest.mark.parametrize(("claimed", "kept"), [(256, 256), (257, 0)])
def test_metrics_are_recorded_up_to_their_limit(claimed: int, kept: int) -> None:
    taken, warnings = take_metrics({"metrics": {str(n): n for n in range(claimed)}})
    assert len(taken) == kept
    assert warnings == ([] if kept else ["metrics are left out, all 257 of them: at most 256 are recorded"])


@pytest.mark.parametrize("name", ["", "a b", "\x1b[31mred", "a\0b", "ü", "a" * 65])
def test_a_name_that_progress_would_not_take_is_left_out_and_told(name: str) -> None:
    taken, (warning,) = take_metrics({"metrics": {name: 1, "kept": 2}})
    assert taken == {"kept": 2.0}
    assert warning.isprintable()
    assert "letters" in warning


@pytest.mark.parametrize("value", ["0.5", True, None, [1], float("nan"), float("inf"), 10**400])
def test_what_is_no_finite_number_is_left_out_and_told(value: Any) -> None:
    taken, (warning,) = take_metrics({"metrics": {"a" * 64: value}})
    assert taken == {}
    assert "only finite numbers" in warning


def test_metrics_that_are_no_mapping_are_told_of_and_none_are_not() -> None:
    assert take_metrics({"metrics": [1]}) == ({}, ["metrics are left out: they are not named numbers"])
    assert take_metrics({}) == ({}, [])


def test_of_very_many_only_some_are_named() -> None:
    _, warnings = take_metrics({"metrics": {f"n{number}": "text" for number in range(20)}})
    assert len(warnings) == 9
    assert warnings[-1] == "12 more metrics are left out"
