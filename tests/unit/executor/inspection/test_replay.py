"""The replay: what it asks, how its report is read, and what its death means."""

from typing import Any

import pytest

from executor.errors import HostError
from executor.inspection.replay import Replay

REPLAY = Replay(models={"m.onnx": "onnx"}, vectors="v.npz")
CASE = {"case": "a", "shape": [1, 2], "max_abs": 0.0, "allowed": 1e-5, "argmax_agreement": 1.0}
REPORT = {"models": {"m.onnx": {"cases": [CASE]}}, "atol": 1e-5, "rtol": 1e-6, "environment": {"cuda": "cpu"}}


def test_a_report_becomes_what_the_policy_decides_on() -> None:
    found = REPLAY.parse(REPORT)
    assert [(m.name, m.error, len(m.cases)) for m in found.models] == [("m.onnx", "", 1)]
    assert found.tolerance == (1e-5, 1e-6)
    assert REPLAY.params() == {"models": {"m.onnx": "onnx"}, "vectors": "v.npz"}


@pytest.mark.parametrize(
    "change", [{"models": {}}, {"models": {"m.onnx": {"cases": [CASE | {"max_abs": "0"}]}}}, {"atol": None}]
)
def test_a_report_that_does_not_fit_is_the_hosts_fault(change: dict[str, Any]) -> None:
    with pytest.raises(HostError):
        REPLAY.parse(REPORT | change)


def test_where_its_container_died_every_model_has_an_error() -> None:
    (model,) = REPLAY.parse(REPLAY.died("ended by signal 11")).models
    assert (model.error, model.cases) == ("ended by signal 11", ())
