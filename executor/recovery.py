"""After an executor that died: its containers, folders and half-made releases go, and its run gets its record.

Run at the start of every run, by `doctor`, and by the reaper that watches over each executor.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from executor.errors import HostError
from executor.home import Home
from executor.record import is_recorded, write_record
from executor.runs import Runs, StoredRun
from executor.sandbox.engine import Engine
from executor.sandbox.owner import sweep, this_process
from signing.errors import SigningError
from signing.local import open_or_create
from signing.manifest import MANIFEST

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
        if run.abandoned and (said := settle(run, runs, home, now=now)):
            done.append(said)
    return done


def settle(run: StoredRun, runs: Runs, home: Home, *, now: Callable[[], datetime]) -> str:
    """End a run whose executor died: as released where its release stands, as lost where it does not.

    Returns:
        What was found, or the empty string where somebody else is settling it.

    Raises:
        HostError: The state of runs cannot be used.
    """
    if not runs.claim(run, this_process(deadline=now().timestamp() + _SETTLE_SECONDS)):
        return ""
    if run.release_record is not None and run.release_result is not None and _stands(run):
        record, said = run.release_record, f"run {run.run_id}: its release stands"
    else:
        record, said = run.lost_record, f"run {run.run_id}: lost"
    folder = home.log / run.run_id
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_recorded(folder):
        try:
            write_record(folder, record, domain=open_or_create(home.trust, now=now()), now=now())
        except (SigningError, OSError) as err:
            raise HostError(f"{said}, and its record could not be written and signed: {folder}") from err
    if record is run.release_record and run.release_result is not None:
        runs.end(run.run_id, run.release_result)
    else:
        runs.lose(run.run_id)
    return said


def _stands(run: StoredRun) -> bool:
    """Whether the release that was about to get its name has it. It was verified before, and a name comes with all."""
    try:
        return _sha256(run.target / MANIFEST) == run.manifest_sha256
    except OSError:
        return False


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
