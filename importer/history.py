"""Reads state.db: what a run is, and what it has done so far. Never writes; a run may be under way meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from importer.model import Attempt, ExitCode, Outcome, Place, Tally
from importer.state import DoneBatch, Identity, explained, open_for_reading

_PAGE = 512
_COLUMNS = (
    "batch, at, first_row, last_row, digest, report_start, report_end, report_crc, input_bytes, input_lines, "
    "input_digest, " + ", ".join(Outcome)
)


class Unfinished(msgspec.Struct, frozen=True):
    """A batch that is not done, but of which something is known."""

    digest: bytes
    known: bytes | None  # what earlier requests proved of its contacts
    in_doubt: bool  # a request for it may have been processed, and nobody knows


class History:
    """The past of one run. Keeps nothing of it: batches are read page by page."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises RunDirectoryError where it is none, or damaged."""
        self._path = path
        self._db = open_for_reading(path)
        # A run that is stopped closes the file while another thread may still be reading; SQLite's binding for Python
        # crashes over that.
        self._lock = Lock()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @property
    def identity(self) -> Identity | None:
        """What the run is of; None where it died before it said so."""
        rows = self._all("SELECT identity FROM run")
        with explained(self._path):
            return msgspec.json.decode(rows[0][0], type=Identity) if rows else None

    @property
    def exit_code(self) -> ExitCode | None:
        """How the run ended; None while it is not complete."""
        rows = self._all("SELECT exit_code FROM run WHERE exit_code IS NOT NULL")
        with explained(self._path):
            return ExitCode(rows[0][0]) if rows else None

    @property
    def report_end(self) -> tuple[int, int]:
        """How much of the report is committed, in bytes, and the checksum of that."""
        rows = self._all("SELECT report_end, report_crc FROM done ORDER BY report_end DESC LIMIT 1")
        return rows[0] if rows else (0, 0)

    @property
    def last_batch(self) -> int:
        """The highest number of a finished batch; 0 where there is none."""
        return int(self._all("SELECT coalesce(max(batch), 0) FROM done")[0][0])

    def tally(self) -> Tally:
        """Give the counts of the run so far."""
        counts = self._all("SELECT counts FROM run WHERE counts IS NOT NULL")
        with explained(self._path):
            tally = msgspec.json.decode(counts[0][0], type=Tally) if counts else Tally()
        sums = ", ".join(f"coalesce(sum({outcome}), 0)" for outcome in Outcome)
        tally.batches, *outcomes = self._all(f"SELECT count(*), {sums} FROM done")[0]  # noqa: S608  # our own names
        tally.outcomes = dict(zip(Outcome, outcomes, strict=True))
        tally.rows = sum(outcomes)
        return tally

    def attempts(self) -> Iterator[Attempt]:
        """Yield the requests so far, in the order in which they ended; those under way at a death are not known."""
        last = 0
        columns = "rowid, at, seconds, waited_seconds, contacts, status"
        query = f"SELECT {columns} FROM attempt WHERE rowid > ? ORDER BY rowid LIMIT {_PAGE}"  # noqa: S608
        while page := self._all(query, last):
            for _, *values in page:
                yield Attempt(*values)
            last = page[-1][0]

    def recent_starts(self) -> list[float]:
        """Give the times of the requests of the last minutes, in seconds of the wall clock, in their order."""
        return [at for (at,) in self._all("SELECT at FROM start ORDER BY at")]

    def unfinished(self) -> dict[int, Unfinished]:
        """Give the batches that were begun and are not done: no more than there were senders."""
        in_doubt = dict(self._all("SELECT batch, digest FROM intent"))
        found = {batch: Unfinished(digest, None, in_doubt=True) for batch, digest in in_doubt.items()}
        for batch, digest, known in self._all("SELECT batch, digest, known FROM progress"):
            found[batch] = Unfinished(digest, known, in_doubt=batch in in_doubt)
        return found

    def done(self, *, by_report: bool = False, after: int = -1) -> Iterator[DoneBatch]:
        """Yield the finished batches in the order of the input, those `after` a batch, or in that of the report."""
        key = "report_end" if by_report else "batch"
        query = f"SELECT {key}, {_COLUMNS} FROM done WHERE {key} > ? ORDER BY {key} LIMIT {_PAGE}"  # noqa: S608
        while page := self._all(query, after):
            for _, *values in page:
                yield _done_batch(*values)
            after = page[-1][0]

    def done_from_the_beginning(self) -> DoneBatch | None:
        """Give the last of the finished batches that follow the first one without a gap; None if there is none."""
        rows = self._all(
            f"SELECT {_COLUMNS} FROM done WHERE EXISTS (SELECT 1 FROM done WHERE batch = 1) AND NOT EXISTS "  # noqa: S608
            "(SELECT 1 FROM done AS next WHERE next.batch = done.batch + 1) ORDER BY batch LIMIT 1"
        )
        return _done_batch(*rows[0]) if rows else None

    def _all(self, query: str, *values: object) -> list[Any]:
        with explained(self._path), self._lock:
            return self._db.execute(query, values).fetchall()


def _done_batch(
    batch: int,
    at: float,
    first: int,
    last: int,
    digest: bytes,
    start: int,
    end: int,
    crc: int,
    input_bytes: int | None,
    input_lines: int | None,
    input_digest: bytes | None,
    *outcomes: int,
) -> DoneBatch:
    place = None
    if input_bytes is not None and input_lines is not None and input_digest is not None:
        place = Place(input_bytes, input_lines, input_digest)
    counts = dict(zip(Outcome, outcomes, strict=True))
    return DoneBatch(batch, first, last, digest, start, end, crc, counts, place, at)
