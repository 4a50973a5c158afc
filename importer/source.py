"""CsvSource: the input's rows, cut into batches. Streams, blocks on the disk, and never sends anything."""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Iterator, Sequence
from typing import Protocol

from importer.errors import InputError
from importer.header import locate_column
from importer.inputs import Input
from importer.model import Batch, ContactResult, Outcome, Place, Reason
from importer.records import Records

MAX_ROWS_PER_CONTACT = 10
"""A batch has at most this many times as many rows as contacts, however many of its rows are not sent."""

MAX_CELL_SHOWN = 256
"""A malformed sid is reported up to this many characters."""


DEFAULT_SID_PATTERN = "[0-9a-fA-F]{32}"
"""What every sid seen so far looks like; no specification says so."""


class Source(Protocol):
    """Batches in the input's order; the same batches every time."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield them. Raises InputError where the input cannot be read on."""
        ...

    def skip(self, batch: int, last_row: int, end: Place) -> bool:
        """Begin after a batch of an earlier reading, if the input up to its end is what it was; say whether."""
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
        self._batches, self._rows = 0, 0  # that were read, or skipped
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
        while True:
            draft = _Draft(self._batches + 1, self._rows + 1, self._pattern, self._batch_size)
            while (room := draft.room) and (cells := self._records.cells(room, self._index)):
                draft.add(cells)
            if draft.is_empty:
                return
            batch = draft.batch(self._records.place())
            if batch.number == 1 and not batch.sids:
                raise InputError(self._no_match(batch.unsent))
            self._batches, self._rows = batch.number, batch.last_row
            yield batch

    def skip(self, batch: int, last_row: int, end: Place) -> bool:
        """Begin after a batch of an earlier reading, if the input up to its end is what it was; say whether.

        Reads so much of the input, but as bytes, which is many times faster than to cut it. Raises InputError.
        """
        if not self._records.skip(end):
            return False
        self._batches, self._rows = batch, last_row
        return True

    def _no_match(self, unsent: Sequence[ContactResult]) -> str:
        cells = [repr(line.contact_sid[:60]) for line in unsent if line.contact_sid][:3]
        sample = f"for example {', '.join(cells)}" if cells else "its cells are empty"
        return (
            f"{self._records.name}: no sid stands in {self.column} of the first {len(unsent):,} rows: {sample}. "
            f"Choose the column with --column, or set input.sid_pattern (now {self._pattern.pattern})."
        )


def all_match(pattern: re.Pattern[str], sids: Sequence[str], together: str) -> bool:
    """Whether each of the sids matches; those that all look like the ones of today are looked at together."""
    if pattern.pattern != DEFAULT_SID_PATTERN:
        return all(map(pattern.fullmatch, sids))
    try:
        return set(map(len, sids)) == {32} and bool(unhexlify(together))
    except ValueError:  # not all of it is hexadecimal
        return False


class _Draft:
    """A batch in the making."""

    def __init__(self, number: int, first_row: int, pattern: re.Pattern[str], batch_size: int) -> None:
        self._number = number
        self._first_row = first_row
        self._next_row = first_row
        self._pattern = pattern
        self._batch_size = batch_size
        self._rows: list[int] = []
        self._sids: list[str] = []
        self._row_of: dict[str, int] = {}  # by sid, in lower case
        self._unsent: list[ContactResult] = []

    @property
    def room(self) -> int:
        """How many more rows certainly fit."""
        rows = self._next_row - self._first_row
        return min(self._batch_size - len(self._sids), self._batch_size * MAX_ROWS_PER_CONTACT - rows)

    @property
    def is_empty(self) -> bool:
        return self._next_row == self._first_row

    def add(self, cells: Sequence[str | None]) -> None:
        """Take the cells of the next rows, at most `room`: together where all are to be sent, as most are."""
        rows = range(self._next_row, self._next_row + len(cells))
        self._next_row = rows.stop
        sids = [cell for cell in cells if cell]
        together = "".join(sids)
        # Hexadecimal digits mean the same in either case, and are mostly written in lower case.
        keys = sids if together == together.lower() else [sid.lower() for sid in sids]
        row_of = dict(zip(keys, rows, strict=False))
        is_new = len(row_of) == len(cells) and self._row_of.keys().isdisjoint(row_of)
        if is_new and all_match(self._pattern, sids, together):
            self._row_of |= row_of
            self._rows += rows
            self._sids += sids
        else:
            self.add_each(rows, cells)

    def add_each(self, rows: Sequence[int], cells: Sequence[str | None]) -> None:
        """Take the cells of these rows, whatever they are."""
        for row, sid in zip(rows, cells, strict=True):
            if sid is None:
                self._leave_out(row, None, Outcome.INVALID, Reason.ROW_TOO_SHORT)
            elif not sid:
                self._leave_out(row, None, Outcome.INVALID, Reason.SID_EMPTY)
            elif not self._pattern.fullmatch(sid):
                self._leave_out(row, sid[:MAX_CELL_SHOWN], Outcome.INVALID, Reason.SID_MALFORMED)
            elif (key := sid.lower()) in self._row_of:
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

    def batch(self, end: Place | None) -> Batch:
        return Batch(self._number, self._first_row, self._next_row - 1, self._rows, self._sids, self._unsent, end)
