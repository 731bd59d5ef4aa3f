"""The comparison: what it asks, how its report is read, and what its death means."""

import pytest

from executor.errors import HostError
from executor.inspection.compare import Comparison

COMPARISON = Comparison(formats={"m.onnx": "onnx"}, atol=1e-6, rtol=1e-5)


def test_a_report_is_about_the_artifacts_that_were_asked_about() -> None:
    (report,) = COMPARISON.parse({"artifacts": {"m.onnx": {"within": True}}}).values()
    assert (report.within, report.count) == (True, 0)
    assert COMPARISON.params() == {"formats": {"m.onnx": "onnx"}, "atol": 1e-6, "rtol": 1e-5}


@pytest.mark.parametrize("artifacts", [{}, {"m.onnx": {}, "n.onnx": {}}, {"m.onnx": {"within": 1}}, None])
def test_a_report_that_does_not_fit_is_the_hosts_fault(artifacts: object) -> None:
    with pytest.raises(HostError):
        COMPARISON.parse({"artifacts": artifacts})


def test_where_its_container_died_every_artifact_has_an_error() -> None:
    assert COMPARISON.parse(COMPARISON.died("x" * 400))["m.onnx"].error == "x" * 300
