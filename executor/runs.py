"""The state of runs in SQLite: who runs what, how it ended, and which idempotency key stands for which run.

A key stands for one request, and for one result once there is one that a retry could not change: then a second run with
the same key gets the first one's result. Keys of runs that failed through the host's or the caller's doing are free.

Before a release gets its name, what will be its record is put down here. So whoever comes after an executor that died
knows whether the release stands, and can write the record that is missing.
"""

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor.errors import HostError, RequestError, UnsupportedError
from executor.exits import Exit
from executor.sandbox.owner import Owner, parse_owner

_VERSION = 1
_BUSY_SECONDS = 30.0
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
# What a retry of the same request could not change.
_FINAL = frozenset(
    {
        Exit.RELEASED,
        Exit.JOB_FAILED,
        Exit.TIMED_OUT,
        Exit.OUT_OF_MEMORY,
        Exit.LIMIT_EXCEEDED,
        Exit.DENIED,
    }
)
_TABLES = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    target TEXT NOT NULL,
    owner TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'releasing', 'ended', 'lost')),
    began REAL NOT NULL,
    ended REAL,
    lost_record TEXT NOT NULL,
    release_record TEXT,
    release_result TEXT,
    manifest_sha256 TEXT,
    result TEXT
) STRICT;
CREATE INDEX unfinished ON runs (state) WHERE state IN ('running', 'releasing');
CREATE TABLE keys (
    key TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs
) STRICT;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run as it was put down.

    Attributes:
        run_id: The run.
        request: Digest of what was asked.
        target: Where its release shall be.
        owner: The process that runs or settles it, as `Owner` writes itself.
        state: `running`, `releasing`, `ended` or `lost`.
        lost_record: The record to write if its executor dies.
        release_record: The record to write if it dies once the release has its name.
        release_result: The result to give in that case.
        manifest_sha256: How to know that release, in hex.
        result: What `run` printed.
    """

    run_id: str
    request: str
    target: Path
    owner: str
    state: str
    lost_record: Mapping[str, Any]
    release_record: Mapping[str, Any] | None
    release_result: Mapping[str, Any] | None
    manifest_sha256: str | None
    result: Mapping[str, Any] | None

    @property
    def abandoned(self) -> bool:
        """Whether nobody is working on it any more although it has not ended."""
        owner = parse_owner(self.owner)
        return self.state in ("running", "releasing") and (owner is None or not owner.alive)


def check_key(key: str) -> str:
    """Return an idempotency key.

    Raises:
        RequestError: It is none.
    """
    if not _KEY.fullmatch(key):
        raise RequestError(
            f"not an idempotency key: {key[:140]!r}", hint="use 1 to 128 letters, digits and any of . _ : / -"
        )
    return key


class Runs:
    """The store. Every method is one transaction.

    Args:
        path: The database; made where there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._transaction() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _TABLES.split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise UnsupportedError(
                    f"the state of runs was written by another version ({version}): {path}",
                    hint="use the executor that wrote it, or move the file away",
                )

    def begin(
        self, run_id: str, *, key: str | None, request: str, target: Path, owner: Owner, lost_record: Mapping[str, Any]
    ) -> StoredRun | None:
        """Put down a run that begins, unless its key stands for another one.

        Returns:
            None where the run may go on; else the run that has the key: the caller waits for it, settles it, or takes
            its result.

        Raises:
            RequestError: The key stands for another request.
        """
        with self._transaction() as db:
            if key is not None:
                row = db.execute(f"{_SELECT} JOIN keys USING (run_id) WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    first = _stored(row)
                    if first.request != request:
                        raise RequestError(
                            f"idempotency key {key!r} was used for another request, in run {first.run_id}",
                            hint="a key stands for one job file with one release directory; use a new one",
                        )
                    return first
            db.execute(
                "INSERT INTO runs (run_id, request, target, owner, state, began, lost_record)"
                " VALUES (?, ?, ?, ?, 'running', ?, ?)",
                (run_id, request, str(target), str(owner), time.time(), json.dumps(lost_record)),
            )
            if key is not None:
                db.execute("INSERT INTO keys VALUES (?, ?)", (key, run_id))
        return None

    def note_release(
        self, run_id: str, *, manifest_sha256: str, record: Mapping[str, Any], result: Mapping[str, Any]
    ) -> None:
        """Put down that a verified release is about to get its name, and what will be true once it has."""
        with self._transaction() as db:
            db.execute(
                "UPDATE runs SET state = 'releasing', manifest_sha256 = ?, release_record = ?, release_result = ?"
                " WHERE run_id = ?",
                (manifest_sha256, json.dumps(record), json.dumps(result), run_id),
            )

    def end(self, run_id: str, result: Mapping[str, Any]) -> None:
        """Put down how a run ended. A result that a retry could change frees the key."""
        self._finish(run_id, "ended", result, final=result["exit_code"] in _FINAL)

    def lose(self, run_id: str) -> None:
        """Put down that a run's executor died and that nothing came of it."""
        self._finish(run_id, "lost", None, final=False)

    def claim(self, run: StoredRun, owner: Owner) -> bool:
        """Take over an abandoned run, to settle it. False if somebody else was faster."""
        with self._transaction() as db:
            change = db.execute(
                "UPDATE runs SET owner = ? WHERE run_id = ? AND owner = ? AND state IN ('running', 'releasing')",
                (str(owner), run.run_id, run.owner),
            )
        return change.rowcount == 1

    def find(self, run_id: str) -> StoredRun | None:
        """Return a run."""
        with self._transaction() as db:
            row = db.execute(f"{_SELECT} WHERE run_id = ?", (run_id,)).fetchone()
        return _stored(row) if row else None

    def unfinished(self) -> list[StoredRun]:
        """Return the runs that have not ended, abandoned ones among them."""
        with self._transaction() as db:
            rows = db.execute(f"{_SELECT} WHERE state IN ('running', 'releasing')").fetchall()
        return [_stored(row) for row in rows]

    def _finish(self, run_id: str, state: str, result: Mapping[str, Any] | None, *, final: bool) -> None:
        with self._transaction() as db:
            db.execute(
                "UPDATE runs SET state = ?, ended = ?, result = ?, release_record = NULL, release_result = NULL"
                " WHERE run_id = ?",
                (state, time.time(), json.dumps(result) if result is not None else None, run_id),
            )
            if not final:
                db.execute("DELETE FROM keys WHERE run_id = ?", (run_id,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One connection and one transaction, on the disk when it is over."""
        try:
            db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
            with contextlib.closing(db):
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                db.execute("PRAGMA foreign_keys = ON")
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                except BaseException:
                    db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
        except sqlite3.Error as err:
            raise HostError(f"the state of runs cannot be used: {self._path}: {err}") from err


_SELECT = (
    "SELECT run_id, request, target, owner, state, lost_record, release_record, release_result, manifest_sha256, result"
    " FROM runs"
)


def _stored(row: tuple[Any, ...]) -> StoredRun:
    run_id, request, target, owner, state, lost_record, release_record, release_result, manifest_sha256, result = row
    return StoredRun(
        run_id=run_id,
        request=request,
        target=Path(target),
        owner=owner,
        state=state,
        lost_record=json.loads(lost_record),
        release_record=json.loads(release_record) if release_record else None,
        release_result=json.loads(release_result) if release_result else None,
        manifest_sha256=manifest_sha256,
        result=json.loads(result) if result else None,
    )
