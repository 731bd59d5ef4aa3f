"""The state of runs: one key, one result; and a run whose executor died is settled once."""

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.errors import HostError, RequestError, UnsupportedError
from executor.exits import Exit
from executor.state.owner import Owner, this_process
from executor.state.runs import Runs, StoredRun, check_key

ME = this_process(deadline=2e9)
DEAD = replace(ME, started=ME.started + 1)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs.sqlite")


def begin(runs: Runs, run_id: str, *, key: str | None = "k", request: str = "r", owner: Owner = ME) -> StoredRun | None:
    target = Path("/nowhere/release")
    return runs.begin(run_id, key=key, request=request, target=target, owner=owner, lost_record={"status": "lost"})


def result(code: int) -> dict[str, Any]:
    return {"exit_code": code, "status": "x"}


def test_a_second_run_with_the_same_key_finds_the_first(runs: Runs) -> None:
    assert begin(runs, "one") is None
    found = begin(runs, "two")
    assert found is not None
    assert (found.run_id, found.state, found.abandoned, found.result) == ("one", "running", False, None)
    assert runs.find("two") is None


def test_runs_without_a_key_do_not_meet(runs: Runs) -> None:
    assert begin(runs, "one", key=None) is None
    assert begin(runs, "two", key=None) is None


def test_a_key_of_another_request_is_refused(runs: Runs) -> None:
    begin(runs, "one")
    with pytest.raises(RequestError, match="used for another request, in run one"):
        begin(runs, "two", request="other")


@pytest.mark.parametrize("code", list(Exit))
def test_a_result_that_a_retry_could_not_change_keeps_the_key(runs: Runs, code: Exit) -> None:
    begin(runs, "one")
    runs.end("one", ME, result(code))
    found = begin(runs, "two")
    final = code in (0, 10, 11, 12, 13, 20)
    assert (found.result if found else None) == (result(code) if final else None)


def test_a_run_of_a_dead_executor_is_abandoned_and_claimed_once(runs: Runs) -> None:
    begin(runs, "one", owner=DEAD)
    found = begin(runs, "two")
    assert found is not None
    assert found.abandoned
    assert [runs.claim(found, str(ME)), runs.claim(found, str(ME))] == [True, False]
    assert not runs.unfinished()[0].abandoned
    runs.lose("one", ME)
    assert runs.unfinished() == []
    assert begin(runs, "two") is None


def test_what_a_release_will_be_is_there_before_it_has_a_name(runs: Runs) -> None:
    begin(runs, "one")
    runs.note_end("one", ME, record={"status": "released"}, result=result(0), release=("d", 7))
    (found,) = runs.unfinished()
    assert (found.state, found.manifest_sha256, found.target_device) == ("ending", "d", 7)
    assert (found.end_record, found.end_result) == ({"status": "released"}, result(0))


def test_a_run_that_was_settled_by_somebody_else_is_not_changed_any_more(runs: Runs) -> None:
    begin(runs, "one", owner=DEAD)
    (found,) = runs.unfinished()
    runs.claim(found, str(ME))
    with pytest.raises(HostError, match="settled by somebody else"):
        runs.note_end("one", DEAD, record={}, result=result(0))
    runs.lose("one", ME)
    for owner in (DEAD, ME):
        with pytest.raises(HostError, match="settled by somebody else"):
            runs.end("one", owner, result(0))
    lost = runs.find("one")
    assert lost is not None
    assert (lost.state, lost.result) == ("lost", None)


def test_a_run_of_another_boot_is_abandoned_whatever_its_deadline(runs: Runs) -> None:
    begin(runs, "one", owner=replace(ME, boot_id="another", deadline=2_000_000_000))
    assert runs.unfinished()[0].abandoned


def test_many_can_be_the_first_to_open_it(tmp_path: Path) -> None:
    wrong: list[BaseException] = []

    def open_it() -> None:
        try:
            Runs(tmp_path / "runs.sqlite")
        except HostError as err:
            wrong.append(err)

    threads = [threading.Thread(target=open_it) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_of_many_that_begin_at_once_one_gets_the_key(runs: Runs) -> None:
    got: list[StoredRun | None] = []
    threads = [threading.Thread(target=lambda n=n: got.append(begin(runs, f"run-{n}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count(None) == 1
    assert len({run.run_id for run in got if run}) == 1


def test_the_journal_is_a_write_ahead_log(runs: Runs, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "runs.sqlite") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_of_another_version_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(UnsupportedError, match="another version"):
        Runs(path)
    (tmp_path / "other").write_bytes(b"no database at all" * 100)
    with pytest.raises(UnsupportedError, match="cannot be used") as refused:
        Runs(tmp_path / "other")
    assert "move it away" in refused.value.hint


def test_a_key_is_one_to_128_plain_characters() -> None:
    for good in ("a", "A.b_c:d/e-f", "k" * 128):
        assert check_key(good) == good
    for bad in ("", "k" * 129, "-a", "a b", "a\n", "ü"):
        with pytest.raises(RequestError, match="idempotency key"):
            check_key(bad)
