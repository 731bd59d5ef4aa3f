"""The state of runs in SQLite: who runs what, how it ended, and which idempotency key stands for which run.

A key stands for one request, and for one result once there is one that a retry could not change: then a second run with
the same key gets the first one's result. Keys of runs that failed through the host's or the caller's doing are free.

Before a release gets its name, and before any record is signed, what will be true then is put down here. So whoever
comes after an executor that died knows what the run came to, and can write the record that is missing.
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

from executor.errors import HostError, RequestError, UnsupportedError, host_error
from executor.exits import Exit
from executor.state.owner import Owner, parse_owner
from signing.files import open_appending

_VERSION = 1
_BUSY_SECONDS = 30.0
_RETRY_SECONDS = 0.02
_BROKEN = ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")
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
    state TEXT NOT NULL CHECK (state IN ('running', 'ending', 'ended', 'lost')),
    began REAL NOT NULL,
    ended REAL,
    lost_record TEXT NOT NULL,
    end_record TEXT,
    end_result TEXT,
    manifest_sha256 TEXT,
    target_device INTEGER,
    result TEXT
) STRICT;
CREATE INDEX unfinished ON runs (state) WHERE state IN ('running', 'ending');
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
        state: `running`, `ending`, `ended` or `lost`.
        lost_record: The record to write if its executor dies before it is ending.
        end_record: The record to write once it is.
        end_result: The result to give then.
        manifest_sha256: How to know the release without which that is not true, in hex; None where there is none.
        target_device: The file system that the release is on.
        result: What `run` printed.
    """

    run_id: str
    request: str
    target: Path
    owner: str
    state: str
    lost_record: Mapping[str, Any]
    end_record: Mapping[str, Any] | None
    end_result: Mapping[str, Any] | None
    manifest_sha256: str | None
    target_device: int | None
    result: Mapping[str, Any] | None

    @property
    def abandoned(self) -> bool:
        """Whether nobody is working on it any more although it has not ended."""
        owner = parse_owner(self.owner)
        return self.state in ("running", "ending") and (owner is None or not owner.alive_here)


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

    def note_end(
        self,
        run_id: str,
        owner: Owner,
        *,
        record: Mapping[str, Any],
        result: Mapping[str, Any],
        release: tuple[str, int] | None = None,
    ) -> None:
        """Put down what a run is about to have come to.

        Args:
            run_id: The run.
            owner: Whose it must still be.
            record: The record that is about to be signed.
            result: What will be printed.
            release: Where a release is about to get its name, without which none of this is true: sha256 of its
                manifest in hex, and the device that it is on.

        Raises:
            HostError: Somebody else has settled the run meanwhile.
        """
        manifest_sha256, device = release or (None, None)
        self._change(
            run_id,
            str(owner),
            "state = 'ending', manifest_sha256 = ?, target_device = ?, end_record = ?, end_result = ?",
            (manifest_sha256, device, json.dumps(record), json.dumps(result)),
        )

    def end(self, run_id: str, owner: Owner, result: Mapping[str, Any]) -> None:
        """Put down how a run ended. A result that a retry could change frees the key.

        Raises:
            HostError: Somebody else has settled the run meanwhile.
        """
        self._finish(run_id, owner, "ended", result, final=result["exit_code"] in _FINAL)

    def lose(self, run_id: str, owner: Owner) -> None:
        """Put down that a run's executor died and that nothing came of it.

        Raises:
            HostError: Somebody else has settled the run meanwhile.
        """
        self._finish(run_id, owner, "lost", None, final=False)

    def claim(self, run: StoredRun, owner: str) -> bool:
        """Take over an unfinished run, to settle it, or give it back. False if somebody else was faster."""
        try:
            self._change(run.run_id, run.owner, "owner = ?", (owner,))
        except _FencedError:
            return False
        return True

    def find(self, run_id: str) -> StoredRun | None:
        """Return a run."""
        with self._transaction() as db:
            row = db.execute(f"{_SELECT} WHERE run_id = ?", (run_id,)).fetchone()
        return _stored(row) if row else None

    def unfinished(self) -> list[StoredRun]:
        """Return the runs that have not ended, abandoned ones among them."""
        with self._transaction() as db:
            rows = db.execute(f"{_SELECT} WHERE state IN ('running', 'ending')").fetchall()
        return [_stored(row) for row in rows]

    def _finish(self, run_id: str, owner: Owner, state: str, result: Mapping[str, Any] | None, *, final: bool) -> None:
        values = (state, time.time(), json.dumps(result) if result is not None else None)
        change = "state = ?, ended = ?, result = ?, end_record = NULL, end_result = NULL"
        self._change(run_id, str(owner), change, values, free_key=not final)

    def _change(self, run_id: str, owner: str, change: str, values: tuple[Any, ...], *, free_key: bool = False) -> None:
        """Change an unfinished run that still is this owner's."""
        with self._transaction() as db:
            done = db.execute(
                f"UPDATE runs SET {change} WHERE run_id = ? AND owner = ? AND state IN ('running', 'ending')",  # noqa: S608
                (*values, run_id, owner),
            )
            if done.rowcount != 1:
                raise _FencedError(f"run {run_id} has been settled by somebody else")
            if free_key:
                db.execute("DELETE FROM keys WHERE run_id = ?", (run_id,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One connection and one transaction, on the disk when it is over."""
        try:
            open_appending(self._path, mode=0o600).close()  # SQLite gives the files beside it the same mode
            with contextlib.closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)) as db:
                _write_ahead(db)
                db.execute("PRAGMA synchronous = FULL")
                db.execute("PRAGMA foreign_keys = ON")
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                except BaseException:
                    db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
        except OSError as err:
            failure = host_error(err, f"the state of runs cannot be used: {self._path}")
            if isinstance(failure, UnsupportedError):
                failure.hint = "make it writable, or set EXECUTOR_HOME to a folder of yours"
            raise failure from err
        except sqlite3.Error as err:
            broken = getattr(err, "sqlite_errorname", "").startswith(_BROKEN)
            raise (UnsupportedError if broken else HostError)(
                f"the state of runs cannot be used: {self._path}: {err}",
                hint="make it writable, or move it away: runs that ended are in log/" if broken else "",
            ) from err


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to a write-ahead log. Of several that are the first to do so, SQLite lets all but one fail at once."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as err:
            if "locked" not in str(err) or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


class _FencedError(HostError):
    """The run is not this process's any more."""


_SELECT = (
    "SELECT run_id, request, target, owner, state, lost_record, end_record, end_result, manifest_sha256,"
    " target_device, result FROM runs"
)


def _stored(row: tuple[Any, ...]) -> StoredRun:
    run_id, request, target, owner, state, lost_record, end_record, end_result, manifest_sha256, device, result = row
    return StoredRun(
        run_id=run_id,
        request=request,
        target=Path(target),
        owner=owner,
        state=state,
        lost_record=json.loads(lost_record),
        end_record=json.loads(end_record) if end_record else None,
        end_result=json.loads(end_result) if end_result else None,
        manifest_sha256=manifest_sha256,
        target_device=device,
        result=json.loads(result) if result else None,
    )
