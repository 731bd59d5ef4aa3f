"""After an executor that died: its containers, folders and half-made releases go, and its run gets its record.

Run at the start of every run, by `doctor`, and by the reaper that watches over each executor.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from executor.errors import HostError
from executor.release.publish import staging_path
from executor.release.record import is_recorded, write_record
from executor.release.signer import open_host_signer
from executor.sandbox.engine import Engine
from executor.state.home import Home
from executor.state.owner import sweep, this_process
from executor.state.runs import Runs, StoredRun
from signing.errors import SigningError
from signing.files import make_folder, remove_folder
from signing.manifest import MANIFEST, RECORD

_SETTLE_SECONDS = 60.0


def recover(engine: Engine | None, home: Home, *, now: Callable[[], datetime]) -> list[str]:
    """Clean up after dead executors of a state directory.

    Args:
        engine: The engine, or None to leave containers alone.
        home: The state directory.
        now: The clock.

    Returns:
        What was done, for people and records.

    Raises:
        HostError: The engine or the state of runs cannot be used.
    """
    done = sweep(engine, home)
    runs = Runs(home.runs_database)
    for run in runs.unfinished():
        if run.abandoned:
            try:
                said = settle(run, runs, home, now=now)
            except HostError as err:  # this one must not stand in the way of other runs
                said = f"not yet: {err.message}"
            done += [said] if said else []
    return done


def settle(run: StoredRun, runs: Runs, home: Home, *, now: Callable[[], datetime]) -> str:
    """End a run whose executor died: as what it had come to, or as lost where its release does not stand.

    Returns:
        What was found, or the empty string where somebody else is settling it.

    Raises:
        HostError: It cannot be told what the run came to, or not be written. The run is as it was.
    """
    me = this_process(deadline=now().timestamp() + _SETTLE_SECONDS)
    if not runs.claim(run, str(me)):
        return ""
    try:
        if run.end_record is not None and run.end_result is not None and release_stands(run):
            _see_recorded(run.end_record, home.log / run.run_id, home, now=now)
            runs.end(run.run_id, me, run.end_result)
            return f"run {run.run_id}: {run.end_record['status']}"
        remove_folder(staging_path(run.target, run.run_id))
        _see_recorded(run.lost_record, home.log / run.run_id, home, now=now)
        runs.lose(run.run_id, me)
    except BaseException:
        with contextlib.suppress(HostError):
            if (mine := runs.find(run.run_id)) is not None:
                runs.claim(mine, run.owner)  # back to the dead, for the next one to try
        raise
    return f"run {run.run_id}: lost"


def release_stands(run: StoredRun) -> bool:
    """Whether the release that was about to get its name has it, if there is to be one.

    It was verified before, and a name comes with all of it.

    Raises:
        HostError: Its file system is not there, or does not answer.
    """
    if run.manifest_sha256 is None:
        return True
    try:
        if run.target.parent.stat().st_dev != run.target_device:
            raise HostError(f"run {run.run_id}: the file system of its release is not mounted: {run.target}")
        return is_release(run.target, run.manifest_sha256)
    except OSError as err:
        raise HostError(f"run {run.run_id}: cannot see whether its release stands: {run.target}: {err}") from err


def is_release(target: Path, manifest_sha256: str) -> bool:
    """Whether a directory is the release with this manifest.

    Raises:
        OSError: It cannot be read.
    """
    try:
        return hashlib.sha256((target / MANIFEST).read_bytes()).hexdigest() == manifest_sha256
    except (FileNotFoundError, NotADirectoryError):
        return False


def _see_recorded(record: Mapping[str, Any], folder: Path, home: Home, *, now: Callable[[], datetime]) -> None:
    """Write a run's record, unless there is one that says the same."""
    try:
        make_folder(folder, mode=0o700, exist_ok=True)
        if is_recorded(folder) and json.loads((folder / RECORD).read_bytes())["status"] == record["status"]:
            return
        write_record(folder, record, signer=open_host_signer(home, now=now()), now=now())
    except (SigningError, OSError, ValueError, KeyError) as err:
        raise HostError(f"the record of run {record['run_id']} could not be written and signed: {folder}") from err
