"""CsvSource: the input's rows, cut into batches. Streams, blocks on the disk, and never sends anything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from importer.errors import InputError
from importer.header import locate_column
from importer.inputs import Input
from importer.model import Batch, ContactResult, Outcome, Reason
from importer.records import Records

MAX_ROWS_PER_CONTACT = 10
"""A batch has at most this many times as many rows as contacts, however many of its rows are not sent."""

MAX_CELL_SHOWN = 256
"""A malformed sid is reported up to this many characters."""


DEFAULT_SID_PATTERN = "[0-9a-fA-F]{32}"
"""What every sid seen so far looks like; no specification says so."""

_HEXADECIMAL = re.compile("[0-9a-fA-F]*")


class Source(Protocol):
    """Batches in the input's order; the same batches every time."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield them. Raises InputError where the input cannot be read on."""
        ...


class CsvSource:
    """Batches of a CSV input: a function of the input's beginning, the batch size and the settings of the input.

    A batch ends with the row that fills it, so that rows which are not sent belong to the batch that follows
    them.
    """

    def __init__(
        self,
        source: Input,
        *,
        column: str | int,
        delimiter: str | None,
        encoding: str,
        sid_pattern: str,
        batch_size: int,
        has_header: bool | None = None,
    ) -> None:
        """Read the header. `delimiter` None finds it, `has_header` None tells. Raises InputError or SettingsError."""
        self._records = Records(source, encoding=encoding, delimiter=delimiter, column=column)
        self._pattern = re.compile(sid_pattern)
        self._batch_size = batch_size
        where = f"{source.name}, line {self._records.line}"
        layout = locate_column(self._records.first, column, self._pattern, where)
        self._index = layout.position
        with_header = layout.has_header if has_header is None else has_header
        self.header = self._records.first if with_header else None
        if not with_header:
            self._records.put_back_first()

    @property
    def delimiter(self) -> str:
        """The delimiter, found or set."""
        return self._records.delimiter

    @property
    def position(self) -> int:
        """Where the sid's cell stands in a record, from 0."""
        return self._index

    @property
    def column(self) -> str:
        """The sid's column as messages call it."""
        name = f" ({self.header[self._index].strip()})" if self.header else ""
        return f"column {self._index + 1}{name}"

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches. Raises InputError where the input cannot be read on."""
        number, last_row = 0, 0
        while True:
            number += 1
            draft = _Draft(number, last_row + 1, self._index, self._pattern, self._batch_size)
            while (room := draft.room) and (records := self._records.take(room)):
                draft.add(records)
            if draft.is_empty:
                return
            batch = draft.batch()
            if number == 1 and not batch.sids:
                raise InputError(self._no_match(batch.unsent))
            last_row = batch.last_row
            yield batch

    def _no_match(self, unsent: Sequence[ContactResult]) -> str:
        cells = [repr(line.contact_sid[:60]) for line in unsent if line.contact_sid][:3]
        sample = f"for example {', '.join(cells)}" if cells else "its cells are empty"
        return (
            f"{self._records.name}: no sid stands in {self.column} of the first {len(unsent):,} rows: {sample}. "
            f"Choose the column with --column, or set input.sid_pattern (now {self._pattern.pattern})."
        )


def all_match(pattern: re.Pattern[str], sids: Sequence[str], together: str) -> bool:
    """Whether each of the sids matches; those that all look like the ones of today are looked at together."""
    if pattern.pattern == DEFAULT_SID_PATTERN:
        return set(map(len, sids)) == {32} and _HEXADECIMAL.fullmatch(together) is not None
    return all(map(pattern.fullmatch, sids))


class _Draft:
    """A batch in the making."""

    def __init__(self, number: int, first_row: int, index: int, pattern: re.Pattern[str], batch_size: int) -> None:
        self._number = number
        self._first_row = first_row
        self._next_row = first_row
        self._index = index
        self._pattern = pattern
        self._batch_size = batch_size
        self._rows: list[int] = []
        self._sids: list[str] = []
        self._row_of: dict[str, int] = {}
        self._unsent: list[ContactResult] = []

    @property
    def room(self) -> int:
        """How many more rows certainly fit."""
        rows = self._next_row - self._first_row
        return min(self._batch_size - len(self._sids), self._batch_size * MAX_ROWS_PER_CONTACT - rows)

    @property
    def is_empty(self) -> bool:
        return self._next_row == self._first_row

    def add(self, records: Sequence[Sequence[str]]) -> None:
        """Take the next rows, at most `room` of them: together where all of them are to be sent, as most are."""
        rows = range(self._next_row, self._next_row + len(records))
        self._next_row = rows.stop
        try:
            sids = [record[self._index].strip() for record in records]
        except IndexError:
            self._add_each(rows, records)
            return
        # Hexadecimal digits mean the same in either case, and are mostly written in lower case.
        together = "".join(sids)
        keys = sids if together == together.lower() else [sid.lower() for sid in sids]
        row_of = dict(zip(keys, rows, strict=True))
        is_new = len(row_of) == len(keys) and self._row_of.keys().isdisjoint(row_of)
        if is_new and all_match(self._pattern, sids, together):
            self._row_of.update(row_of)
            self._rows += rows
            self._sids += sids
        else:
            self._add_each(rows, records)

    def _add_each(self, rows: Sequence[int], records: Sequence[Sequence[str]]) -> None:
        for row, record in zip(rows, records, strict=True):
            if self._index >= len(record):
                self._leave_out(row, None, Outcome.INVALID, Reason.ROW_TOO_SHORT)
                continue
            sid = record[self._index].strip()
            key = sid.lower()
            if not sid:
                self._leave_out(row, None, Outcome.INVALID, Reason.SID_EMPTY)
            elif not self._pattern.fullmatch(sid):
                self._leave_out(row, sid[:MAX_CELL_SHOWN], Outcome.INVALID, Reason.SID_MALFORMED)
            elif key in self._row_of:
                self._leave_out(row, sid, Outcome.DUPLICATE, duplicate_of=self._row_of[key])
            else:
                self._row_of[key] = row
                self._rows.append(row)
                self._sids.append(sid)

    def _leave_out(
        self,
        row: int,
        sid: str | None,
        outcome: Outcome,
        reason: Reason | None = None,
        duplicate_of: int | None = None,
    ) -> None:
        self._unsent.append(ContactResult(row, sid, outcome, self._number, 0, reason=reason, duplicate_of=duplicate_of))

    def batch(self) -> Batch:
        return Batch(self._number, self._first_row, self._next_row - 1, self._rows, self._sids, self._unsent)
