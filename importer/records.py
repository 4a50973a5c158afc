"""The records of a CSV input, and where they cannot be read on: one clear error with its line.

Knows nothing of sids but that a header may name their column.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from importer.errors import ImporterError, InputError, SettingsError
from importer.header import find_delimiter
from importer.inputs import DAMAGED_STREAM_ERRORS, Input
from importer.lines import MAX_ROW_BYTES, Lines, RowTooLongError, UndecodableError
from importer.model import Place

MAX_CELL_CHARACTERS = 1024 * 1024
_MAX_HEADER_LINES = 50
_MAX_ROWS_AT_ONCE = 128
_MAX_CELLS_AT_ONCE = 2048
_LINE_END = re.compile(r"\r\n|\r|\n")
_READ_ERRORS = (UndecodableError, UnicodeError, RowTooLongError, csv.Error, OSError, *DAMAGED_STREAM_ERRORS)


class Records:
    """The records of one input in order, blank lines left out, read as they are asked for.

    The standard library's parser in strict mode: after an unclosed quote it complains, where others swallow the
    rest of the file.
    """

    def __init__(
        self, source: Input, *, encoding: str, delimiter: str | None, column: str | int, keep_text: bool = False
    ) -> None:
        """Read the first record. `delimiter` None finds it, with the help of the `column` that is wanted.

        With `keep_text`, `text` is the last record as it stands in the input.
        Raises InputError or SettingsError.
        """
        self.name = source.name
        self.has_mark = False  # a byte order mark stood before the first record
        self.line = 0  # the line of the input up to which it was read in whole records, from 1
        self._source = source
        self._encoding = encoding
        self._taken: list[list[str]] = []  # by the call of take() that is under way
        self._put_back: list[list[str]] = []
        self._text_lines: list[str] = []  # of the record that was read last
        self._keeps_text = keep_text
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        try:
            self._lines = Lines(source.stream(), encoding, self._progress)
        except (LookupError, ValueError):
            raise SettingsError(f"input.encoding: Python knows no text encoding {encoding!r}.") from None
        try:
            beginning = self._first_lines(self._lines)
            self.delimiter = delimiter or find_delimiter(beginning, column)
        except _READ_ERRORS as error:
            raise self._complaint(error) from error
        if not beginning:
            raise InputError(f"{self.name}: the input has only blank lines; expected rows of contact sids.")
        self._lines.put_back(beginning)
        self.line = self._lines.count
        self._reader = self._new_reader()
        self._at_once = 1
        self.first = self.take(1)[0]
        if not keep_text:
            self._at_once = max(1, min(_MAX_ROWS_AT_ONCE, _MAX_CELLS_AT_ONCE // len(self.first)))

    def __iter__(self) -> Iterator[list[str]]:
        """Go on with the records after the first, one by one. Raises InputError where the input cannot be read on."""
        while records := self.take(self._at_once):
            yield from records

    @property
    def text(self) -> str:
        """The last record as it stands in the input, if that is kept."""
        return "".join(self._text_lines)

    def put_back_first(self) -> None:
        """Let the first record be taken again: it is no header."""
        self._put_back = [self.first]

    def take(self, count: int) -> list[list[str]]:
        """Read the next `count` records or fewer, so that wide rows do not fill the memory; an empty list is the end.

        Raises InputError where the input cannot be read on.
        """
        if self._put_back:
            records, self._put_back = self._put_back, []
            return records
        while True:
            records = self._taken = []
            self._text_lines.clear()
            try:
                records.extend(islice(self._reader, min(count, self._at_once)))
            except _READ_ERRORS as error:
                # What was read before the error is still in `records`: it tells the line of the bad one.
                self.line += sum(map(_count_lines, records))
                raise self._complaint(error) from error
            self._taken = []
            self.line = self._lines.count
            filled = [record for record in records if record]
            if filled or not records:
                return filled

    def cells(self, count: int, position: int) -> Sequence[str | None]:
        """Read the next `count` records or fewer, of each the cell at `position`, without blanks around it.

        None stands for a record that has no such cell. Raises InputError where the input cannot be read on.
        """
        if not self._put_back:
            try:
                plain = self._lines.plain(min(count, _MAX_ROWS_AT_ONCE))
            except _READ_ERRORS as error:
                raise self._complaint(error) from error
            if plain:
                self.line = self._lines.count
                return plain_cells(plain, self.delimiter, position)
        return [record[position].strip() if position < len(record) else None for record in self.take(count)]

    def place(self) -> Place | None:
        """Tell how far in the input the records that were read reach; None where that cannot be told in bytes."""
        return self._lines.place()

    def skip(self, place: Place) -> bool:
        """Go on after a place of an earlier reading, if all before it is byte for byte as it was; else stay here.

        Raises InputError where the input cannot be read.
        """
        if not self._source.is_rewindable:
            return False
        try:
            lines = Lines.after(place, self._source.stream(), self._encoding, self._progress)
        except _READ_ERRORS as error:
            raise self._complaint(error) from error
        if lines is None:
            return False
        self._lines, self._put_back = lines, []
        self.line = lines.count
        self._reader = self._new_reader()
        return True

    def _progress(self) -> int:
        return self.line + len(self._taken)

    def _new_reader(self) -> Iterator[list[str]]:
        lines = self._kept(self._lines) if self._keeps_text else self._lines
        return csv.reader(lines, delimiter=self.delimiter, strict=True)

    def _first_lines(self, text: Lines) -> list[str]:
        """Read the lines of the first record, without the blank ones before it and without a byte order mark.

        More than its lines if it has a stray quote.
        """
        lines: list[str] = []
        quotes = 0
        for line in text:
            self.line += 1
            if lines or line.strip("\ufeff\r\n"):
                self.has_mark |= not lines and line.startswith("\ufeff")
                lines.append(line if lines else line.removeprefix("\ufeff"))
                quotes += line.count('"')
                if quotes % 2 == 0 or len(lines) == _MAX_HEADER_LINES:
                    break
        return lines

    def _kept(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self._text_lines.append(line)
            yield line

    def _complaint(self, error: Exception) -> ImporterError:
        """Say for people why no further record can be read."""
        begin, last = self.line + 1, self._lines.count
        match error:
            case UndecodableError() | UnicodeError():
                where = f"line {last + 1}"
                what = f"{error}. Set input.encoding to what the file has."
            case RowTooLongError():
                where = f"line {begin}"
                what = f"the row that begins here is longer than {MAX_ROW_BYTES:,} bytes. Is this a CSV file?"
            case csv.Error():
                where = f"line {begin}" if begin >= last else f"lines {begin} to {last}"
                what = f"{_csv_complaint(str(error), begin)} Mend the file and start again."
            case OSError() if not isinstance(error, DAMAGED_STREAM_ERRORS):
                where, what = f"after line {last}", f"cannot be read on: {error.strerror or error}."
            case _:
                where = f"after line {last}"
                what = f"the compressed data is damaged or cut short ({error}). Get the file again."
        return InputError(f"{self.name}, {where}: {what}")


def plain_cells(lines: Sequence[str], delimiter: str, position: int) -> Sequence[str | None]:
    """Give the cell at `position` of each line, where each is a record in which nothing is quoted."""
    return [
        cells[position].strip() if len(cells := line.split(delimiter, position + 1)) > position else None
        for line in lines
    ]


def _count_lines(record: list[str]) -> int:
    return 1 + sum(len(_LINE_END.findall(cell)) for cell in record)


def _csv_complaint(error: str, line: int) -> str:
    if "unexpected end of data" in error:
        return f"a quote in the row that begins in line {line} is never closed."
    if "field larger than field limit" in error:
        return f"a cell has more than {MAX_CELL_CHARACTERS:,} characters: a quote opened here is hardly ever closed."
    return f"not valid CSV: {error}."
