"""What a run says of its limits: each of the job file's, with what was asked, allowed and used."""

from executor.job.spec import Limits
from executor.run.usage import limits_wire
from executor.sandbox.cgroup import Usage
from executor.sandbox.outcome import Outcome, OutcomeKind
from executor.sandbox.session import RunResult
from tests.unit.executor.job.test_plan import plan, spec

RESULT = RunResult(
    outcome=Outcome(kind=OutcomeKind.SUCCEEDED, reason=""),
    result={},
    usage=Usage(memory_peak_bytes=100, pids_peak=3, cpu_seconds=4.0),
    log_bytes=5,
    output_bytes=6,
    tmp_bytes=7,
    tmp_inodes=None,
    idle_seconds=0.5,
    host_cpu_seconds=0.25,
    host_cpu_seconds_max=60.0,
    tcp_sockets=8,
    warm=False,
    host_config_sha256="",
    removed=True,
    seconds={"run": 2.0},
)


def test_every_limit_of_the_job_file_is_reported() -> None:
    asked = {"pids": 64, "wall_seconds": 5.0}
    report = limits_wire(spec(limits=asked), plan(limits=asked), RESULT, [], 9)
    assert set(report) == set(Limits.model_fields) | {"cpu_seconds", "host_cpu_seconds", "tcp_sockets"}
    assert report["pids"] == {"asked": 64, "allowed": 1024, "used": 3}
    assert report["memory_bytes"]["used"] == 100
    assert report["cpus"]["used"] == 2.0  # cores, on average
    assert report["wall_seconds"] == {"asked": 5.0, "allowed": 86400.0, "used": 2.0}
    assert report["cpu_seconds"] == {"asked": None, "allowed": 20, "used": 4.0}
    assert report["host_cpu_seconds"] == {"asked": None, "allowed": 60.0, "used": 0.25}
    assert report["tcp_sockets"] == {"asked": None, "allowed": 2048, "used": 8}
    assert (report["input_bytes"]["used"], report["log_bytes"]["used"]) == (9, 5)
    assert report["output_file_bytes"]["used"] == 0


def test_what_nobody_saw_is_null_and_no_number() -> None:
    report = limits_wire(spec(), plan(), RESULT, [], 0)
    assert report["tmp_bytes"]["used"] == 7
    assert report["tmp_inodes"]["used"] is None
