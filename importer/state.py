"""state.db as a file: its schema, how it is opened, and what its errors mean to people.

sqlite3 lives here, in `journal` (which writes) and in `history` (which reads).
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

import msgspec

from importer.errors import ImporterError, IncompleteError, RunDirectoryError, disk_error
from importer.model import Outcome

APPLICATION_ID = 0x696D7074
SCHEMA_VERSION = 1

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
    batch INTEGER NOT NULL
) STRICT;
CREATE TABLE progress (                    -- what is known of the contacts of batches not done
    batch INTEGER PRIMARY KEY,
    known BLOB NOT NULL
) STRICT;
CREATE TABLE done (
    batch INTEGER PRIMARY KEY,
    first_row INTEGER NOT NULL,
    last_row INTEGER NOT NULL,
    digest BLOB NOT NULL,                  -- of the batch as it was cut from the input
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


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the file, or create it. Raises RunDirectoryError where it is damaged, IncompleteError where it cannot be."""
    try:
        # SQLite would make the file readable by all; the files beside it follow its permissions.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        _check(db, path)
    except OSError as error:
        raise disk_error(error, path) from error
    except sqlite3.Error as error:
        raise explain(path, error) from error
    return db


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the file of a run that may be under way. Raises RunDirectoryError or IncompleteError."""
    if not path.is_file():
        raise RunDirectoryError(f"{path.parent}: not the directory of a run: it has no {path.name}.")
    address = f"file:{quote(str(path.absolute()))}"
    try:
        try:
            db = sqlite3.connect(f"{address}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
            db.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:  # a directory that nobody may write to holds no shared memory file
            db = sqlite3.connect(f"{address}?immutable=1", uri=True, isolation_level=None, check_same_thread=False)
        _check(db, path)
    except sqlite3.Error as error:
        raise explain(path, error) from error
    return db


def explain(path: Path, error: sqlite3.Error) -> ImporterError:
    """Turn what SQLite says into a sentence."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_BUSY")):
        return IncompleteError(
            f"{path}: cannot be written: {error}. Make room or mend its permissions, then run the same command again."
        )
    return RunDirectoryError(
        f"{path}: damaged ({error}). What the run has done cannot be told from it: restore the file from a backup, or "
        "start anew in another directory with --run-dir; contacts that are in the list are then told already_present."
    )


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
        raise explain(path, sqlite3.DatabaseError(verdict))
