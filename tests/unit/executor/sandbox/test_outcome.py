"""The classifier: every outcome is reached, and no fact of the job's can make one better."""

from dataclasses import replace

import pytest

from executor.exits import Exit
from executor.sandbox.cgroup import Usage
from executor.sandbox.outcome import Fault, Outcome, OutcomeKind, RunFacts, Stop, classify

GOOD = RunFacts(
    stop=None,
    stop_detail="",
    job_exit=(0, 0),
    container_status=0,
    oom_killed=False,
    usage=Usage(),
    error="",
    finished=True,
)


def outcome(**change: object) -> Outcome:
    return classify(replace(GOOD, **change))  # type: ignore[arg-type]


def test_a_job_that_sent_its_result_and_ended_with_zero_succeeded() -> None:
    assert outcome().kind is OutcomeKind.SUCCEEDED


@pytest.mark.parametrize(
    ("change", "kind", "limit"),
    [
        ({"finished": False}, OutcomeKind.JOB_FAILED, None),
        ({"job_exit": (3, 0)}, OutcomeKind.JOB_FAILED, None),
        ({"job_exit": (139, 11)}, OutcomeKind.JOB_FAILED, None),
        ({"job_exit": (137, 9)}, OutcomeKind.JOB_FAILED, None),
        ({"job_exit": (137, 9), "oom_killed": True}, OutcomeKind.OUT_OF_MEMORY, "memory_bytes"),
        ({"job_exit": (137, 9), "usage": Usage(oom_kills=1)}, OutcomeKind.OUT_OF_MEMORY, "memory_bytes"),
        ({"job_exit": (7, 0), "oom_killed": True}, OutcomeKind.JOB_FAILED, None),
        ({"job_exit": None, "container_status": 137, "oom_killed": True}, OutcomeKind.OUT_OF_MEMORY, "memory_bytes"),
        ({"job_exit": (1, 0), "usage": Usage(pids_refused=1)}, OutcomeKind.LIMIT_EXCEEDED, "pids"),
        ({"job_exit": None, "container_status": 137}, OutcomeKind.HOST_FAULT, None),
        ({"job_exit": None, "container_status": 4294967295}, OutcomeKind.HOST_FAULT, None),
        ({"job_exit": None, "container_status": None}, OutcomeKind.HOST_FAULT, None),
        ({"job_exit": None, "container_status": 0}, OutcomeKind.HOST_FAULT, None),
        ({"job_exit": None, "container_status": 124}, OutcomeKind.TIMED_OUT, None),
        ({"job_exit": None, "container_status": 125}, OutcomeKind.HOST_FAULT, None),
        ({"stop": Stop.WALL}, OutcomeKind.TIMED_OUT, "wall_seconds"),
        ({"stop": Stop.WALL, "oom_killed": True}, OutcomeKind.TIMED_OUT, "wall_seconds"),
        ({"stop": Stop.CANCELLED}, OutcomeKind.CANCELLED, None),
        ({"stop": Stop.PROTOCOL}, OutcomeKind.JOB_FAILED, "protocol"),
        ({"stop": Stop.LOG}, OutcomeKind.LIMIT_EXCEEDED, "log_bytes"),
        ({"stop": Stop.OUTPUT_BYTES}, OutcomeKind.LIMIT_EXCEEDED, "output_bytes"),
        ({"stop": Stop.OUTPUT_FILES}, OutcomeKind.LIMIT_EXCEEDED, "output_files"),
        ({"stop": Stop.PIDS}, OutcomeKind.LIMIT_EXCEEDED, "pids"),
        ({"stop": Stop.IDLE}, OutcomeKind.TIMED_OUT, "idle_seconds"),
        ({"stop": Stop.OUTPUT_FILE_BYTES}, OutcomeKind.LIMIT_EXCEEDED, "output_file_bytes"),
        ({"job_exit": (152, 24)}, OutcomeKind.TIMED_OUT, "cpu_seconds"),
        ({"job_exit": (152, 0)}, OutcomeKind.JOB_FAILED, None),
        ({"job_exit": (137, 0), "oom_killed": True}, OutcomeKind.JOB_FAILED, None),
        ({"job_exit": None, "container_status": 126}, OutcomeKind.HOST_FAULT, None),
    ],
)
def test_each_set_of_facts_has_its_outcome(change: dict[str, object], kind: OutcomeKind, limit: str | None) -> None:
    found = outcome(**change)
    assert (found.kind, found.limit) == (kind, limit)


def test_every_stop_is_classified_and_never_as_success() -> None:
    for stop in Stop:
        assert outcome(stop=stop).kind is not OutcomeKind.SUCCEEDED


def test_only_success_has_exit_code_zero() -> None:
    assert {k for k in OutcomeKind if k.exit is Exit.RELEASED} == {OutcomeKind.SUCCEEDED}


def test_an_oom_of_a_child_is_not_an_oom_of_the_job() -> None:
    found = outcome(job_exit=(0, 0), oom_killed=True, usage=Usage(oom_kills=3))
    assert found.kind is OutcomeKind.SUCCEEDED


def test_a_number_that_looks_like_a_kill_is_none_after_an_oom_of_a_child() -> None:
    found = outcome(job_exit=(137, 0), oom_killed=True, usage=Usage(oom_kills=1))
    assert (found.kind, found.fault) == (OutcomeKind.JOB_FAILED, Fault.JOB)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"job_exit": (3, 0)}, Fault.JOB),
        ({"stop": Stop.PROTOCOL}, Fault.JOB),
        ({"stop": Stop.WALL}, Fault.LIMIT),
        ({"job_exit": (137, 9), "oom_killed": True}, Fault.LIMIT),
        ({"stop": Stop.LOG}, Fault.LIMIT),
        ({"stop": Stop.CANCELLED}, Fault.CALLER),
        ({"job_exit": None, "container_status": 0}, Fault.HOST),
    ],
)
def test_each_outcome_says_whose_doing_it_is(change: dict[str, object], fault: Fault | None) -> None:
    assert outcome(**change).fault is fault


def test_the_evidence_is_every_fact_and_is_recorded() -> None:
    found = outcome(job_exit=(137, 9), oom_killed=True, usage=Usage(oom_kills=2, pids_refused=1))
    assert found.to_wire()["evidence"] == {
        "stop": None,
        "job_exit_code": 137,
        "job_signal": 9,
        "container_status": 0,
        "engine_oom_killed": True,
        "oom_kills": 2,
        "pids_refused": 1,
        "result_sent": True,
    }
    assert found.to_wire()["fault"] == "limit"
