"""What an earlier process left of a run: checked, cut to what is proven, or refused. Blocks on the disk."""

from __future__ import annotations

import fcntl
import os
import time
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

from importer.errors import InputError, OtherInputError, RunDirectoryError, disk_error
from importer.history import History
from importer.model import Batch
from importer.report import read_lines
from importer.state import DoneBatch, Identity

REPORT = "report.jsonl"
SUMMARY = "summary.json"
STATE = "state.db"
LOCK = "lock"
_LOCK_TRIES = 10
_LOCK_PAUSE_SECONDS = 0.02
_CHUNK_BYTES = 1024 * 1024
_SHAPES = {
    "list_sid": "list",
    "size_bytes": "size of the input",
    "sample": "content of the input",
    "batch_size": "delivery.batch_size",
    "position": "input.column",
    "has_header": "header of the input",
    "delimiter": "input.delimiter",
    "encoding": "input.encoding",
    "sid_pattern": "input.sid_pattern",
}


class DirectoryLock:
    """A run directory that this process alone writes to. The lock ends with the process, however that ends."""

    def __init__(self, directory: Path) -> None:
        """Make the directory, if it is not there. Raises RunDirectoryError where another process holds it."""
        try:
            make_directory(directory)
            self._file = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise disk_error(error, directory) from error
        # More than once: whoever looks whether the run is running holds the lock for a moment.
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_LOCK_PAUSE_SECONDS)
            else:
                return
        os.close(self._file)
        raise RunDirectoryError(
            f"{directory}: another process is at work on this run. Wait for it, or look with: "
            f"importer status {directory}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        os.close(self._file)


def is_running(directory: Path) -> bool:
    """Whether a process is at work on the run."""
    try:
        file = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def refuse_foreign(directory: Path) -> None:
    """Refuse a directory whose report is not of a journalled run. Raises RunDirectoryError."""
    if (directory / REPORT).exists() and not (directory / STATE).exists():
        raise RunDirectoryError(
            f"{directory}: holds a {REPORT}, but no {STATE} that tells what it is of. Restore that file, or choose "
            "another directory with --run-dir."
        )


def recover(directory: Path, identity: Identity, history: History) -> Identity | None:
    """Make the report what the journal says, and give the identity of the run; None for a run that has not begun.

    Bytes beyond the last committed end are what a crash left: they are cut. Raises RunDirectoryError where the
    directory is of another run, or its report is not what was written.
    """
    report = directory / REPORT
    past = history.identity
    size = report.stat().st_size if report.exists() else 0
    if past is None:
        if size or (directory / SUMMARY).exists():  # both are written later than what the run is of
            raise RunDirectoryError(f"{directory}: {STATE} has lost what the run is of; restore it from a backup.")
        return None
    differing = [name for field, name in _SHAPES.items() if getattr(past, field) != getattr(identity, field)]
    if differing:
        kind = OtherInputError if set(differing) <= {_SHAPES["size_bytes"], _SHAPES["sample"]} else RunDirectoryError
        raise kind(
            f"{directory}: holds another run ({past.location} into list {past.list_sid}); what differs: "
            f"{', '.join(differing)}. Go on with what it began with, or choose another directory with --run-dir."
        )
    end, checksum = history.report_end
    if size < end or checksum_of(report, end) != checksum:
        first = _first_changed(report, history)
        raise RunDirectoryError(
            f"{report}: is not what the run wrote{first}. Restore it from a backup, or start anew in another directory "
            "with --run-dir."
        )
    if size > end:
        try:
            with report.open("r+b") as file:
                file.truncate(end)
                os.fsync(file.fileno())
        except OSError as error:
            raise disk_error(error, report) from error
    return past


def checksum_of(report: Path, end: int) -> int:
    """Compute the CRC-32 of the report's first `end` bytes; of fewer where it has no more."""
    checksum = 0
    if end:
        try:
            with report.open("rb") as file:
                while end and (chunk := file.read(min(end, _CHUNK_BYTES))):
                    checksum = zlib.crc32(chunk, checksum)
                    end -= len(chunk)
        except OSError as error:
            raise disk_error(error, report) from error
    return checksum


def changed_row(report: Path, batch: Batch, done: DoneBatch) -> int:
    """Find the first row of the batch that is not the row that was reported."""
    rows = dict(zip(batch.rows, batch.sids, strict=True)) | {line.row: line.contact_sid for line in batch.unsent}
    try:
        lines = read_lines(report, done.report_start, done.report_end)
    except (OSError, ValueError) as error:
        raise InputError(f"{report}: cannot be compared with the input: {error}.") from error
    differing = (line.row for line in lines if rows.get(line.row, "") != line.contact_sid)
    return next(differing, min(batch.last_row, done.last_row) + 1)


def make_directory(directory: Path) -> None:
    """Make the directory, and let its name survive a loss of power, so that what is in it does."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for made in missing:
        handle = os.open(made.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _first_changed(report: Path, history: History) -> str:
    if not report.exists():
        return ": it is missing"
    try:
        size, checksum = report.stat().st_size, 0
        with report.open("rb") as file:
            for done in history.done(by_report=True):
                checksum = zlib.crc32(file.read(done.report_end - done.report_start), checksum)
                if size < done.report_end or checksum != done.report_crc:
                    return f", from the lines of rows {done.first_row:,} to {done.last_row:,} on"
    except OSError as error:
        raise disk_error(error, report) from error
    return ""
