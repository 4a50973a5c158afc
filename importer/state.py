"""state.db as a file: its schema, how it is opened, and what its errors mean to people.

sqlite3 lives here; `journal` writes through it, and `history` reads.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec

from importer.errors import ImporterError, IncompleteError, RunDirectoryError, disk_error
from importer.model import Outcome, Place

APPLICATION_ID = 0x696D7074
SCHEMA_VERSION = 3
_CACHE_KIB = 256  # rather than SQLite's 2,000: rows are appended, and the memory must not grow with the run

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE run (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    identity TEXT NOT NULL,                -- what the run is of, as JSON
    counts BLOB,                           -- requests, retries and the like, as JSON
    exit_code INTEGER                      -- of the complete run
) STRICT;
CREATE TABLE intent (                      -- requests that may be under way
    number INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    digest BLOB NOT NULL                   -- of the batch as it was cut from the input
) STRICT;
CREATE TABLE start (                       -- requests of the last minutes, for the quota
    at REAL NOT NULL                       -- seconds of the wall clock
) STRICT;
CREATE TABLE progress (                    -- what is known of the contacts of batches not done
    batch INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,                  -- of the batch as it was cut from the input
    known BLOB NOT NULL
) STRICT;
CREATE TABLE attempt (                     -- all requests, to look back on
    at REAL NOT NULL,                      -- when it left, in seconds of the wall clock
    seconds REAL NOT NULL,                 -- until its answer
    waited_seconds REAL NOT NULL,          -- before it left
    contacts INTEGER NOT NULL,
    status INTEGER                         -- of HTTP; NULL: no answer
) STRICT;
CREATE TABLE done (
    batch INTEGER PRIMARY KEY,
    at REAL NOT NULL,                      -- seconds of the wall clock
    first_row INTEGER NOT NULL,
    last_row INTEGER NOT NULL,
    digest BLOB NOT NULL,                  -- of the batch as it was cut from the input
    input_bytes INTEGER,                   -- where it ends in the input, and the digest of all up to there
    input_lines INTEGER,
    input_digest BLOB,
    report_start INTEGER NOT NULL,         -- its lines' place in the report, in bytes
    report_end INTEGER NOT NULL,
    report_crc INTEGER NOT NULL,           -- of the report up to report_end
    {", ".join(f"{outcome.value} INTEGER NOT NULL" for outcome in Outcome)}
) STRICT;
CREATE UNIQUE INDEX done_by_end ON done (report_end);
"""


class Identity(msgspec.Struct, frozen=True):
    """What a run is of. Two runs with equal identities cut the same batches for the same list."""

    list_sid: str
    location: str  # the input as it was named; where it lies may change
    size_bytes: int | None
    sample: str
    batch_size: int
    position: int  # of the sid's cell, from 0
    has_header: bool
    delimiter: str
    encoding: str
    sid_pattern: str


class DoneBatch(msgspec.Struct, frozen=True):
    """A finished batch: its rows, and where its lines stand in the report."""

    batch: int
    first_row: int
    last_row: int
    digest: bytes
    report_start: int
    report_end: int
    report_crc: int
    outcomes: dict[Outcome, int]
    end: Place | None = None  # in the input
    at: float = 0.0  # seconds of the wall clock; the journal sets it


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the file, or create it. Raises RunDirectoryError where it is damaged, IncompleteError where it cannot be."""
    try:
        # SQLite would make the file readable by all; the files beside it follow its permissions.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise disk_error(error, path) from error
    with explained(path):
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        with _closed_on_error(db):
            is_new = _is_empty(db)
            if not is_new:  # checked first: nothing is changed in a file that is not ours
                _check(db, path)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            if is_new:
                db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
    return db


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the file of a run that may be under way. Raises RunDirectoryError or IncompleteError."""
    if not path.is_file():
        raise RunDirectoryError(f"{path.parent}: not the directory of a run: it has no {path.name}.")
    with explained(path):
        try:
            return _opened_for_reading(path, "mode=ro")
        except sqlite3.OperationalError:
            # A directory that nobody may write to holds no shared memory file. What stands beside the file in its log
            # is not seen without: so there must be none.
            log = path.with_name(f"{path.name}-wal")
            if log.exists() and log.stat().st_size:
                raise
            return _opened_for_reading(path, "immutable=1")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says, or a value that cannot be read, into a sentence."""
    try:
        yield
    except (sqlite3.Error, ValueError) as error:
        raise _explain(path, error) from error


def _explain(path: Path, error: sqlite3.Error | ValueError) -> ImporterError:
    name = getattr(error, "sqlite_errorname", "")
    said = " ".join(str(error).split())
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_BUSY")):
        return IncompleteError(
            f"{path}: cannot be used: {said}. Make room or mend its permissions, then run the same command again."
        )
    return RunDirectoryError(
        f"{path}: damaged ({said}). What the run has done cannot be told from it: restore the file from a backup, or "
        "start anew in another directory with --run-dir; contacts that are in the list are then told already_present."
    )


def _opened_for_reading(path: Path, how: str) -> sqlite3.Connection:
    address = f"file:{quote(str(path.absolute()))}?{how}"
    db = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    with _closed_on_error(db):
        _check(db, path)
    return db


@contextmanager
def _closed_on_error(db: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        db.close()
        raise


def _is_empty(db: sqlite3.Connection) -> bool:
    """Whether nothing was ever written to it, or no more than what comes before the schema."""
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables and not db.execute("PRAGMA application_id").fetchone()[0]


def _check(db: sqlite3.Connection, path: Path) -> None:
    found = db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0]
    if found[0] != APPLICATION_ID:
        raise RunDirectoryError(f"{path}: not the journal of a run.")
    if found[1] != SCHEMA_VERSION:
        raise RunDirectoryError(
            f"{path}: written by another version of importer (format {found[1]}, this one writes {SCHEMA_VERSION}); "
            "finish the run with the version that began it."
        )
    verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
