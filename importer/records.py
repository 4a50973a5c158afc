"""The records of a CSV input, and where they cannot be read on: one clear error with its line.

Knows nothing of sids but that a header may name their column.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain, islice

from importer.errors import ImporterError, InputError, SettingsError
from importer.header import find_delimiter
from importer.inputs import DAMAGED_STREAM_ERRORS, MAX_ROW_BYTES, Input, RowTooLongError

MAX_CELL_CHARACTERS = 1024 * 1024
_MAX_HEADER_LINES = 50
_MAX_ROWS_AT_ONCE = 32
_MAX_CELLS_AT_ONCE = 2048
_LINE_END = re.compile(r"\r\n|\r|\n")
_READ_ERRORS = (UnicodeError, RowTooLongError, csv.Error, OSError, *DAMAGED_STREAM_ERRORS)


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
        self._encoding = encoding
        self._taken: list[list[str]] = []  # by the call of take() that is under way
        self._put_back: list[list[str]] = []
        self._text_lines: list[str] = []  # of the record that was read last
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        try:
            text = io.TextIOWrapper(source.stream(self._progress), encoding=encoding, newline="")
        except (LookupError, ValueError):
            raise SettingsError(f"input.encoding: Python knows no text encoding {encoding!r}.") from None
        try:
            beginning = self._first_lines(text)
            self.delimiter = delimiter or find_delimiter(beginning, column)
        except _READ_ERRORS as error:
            raise self._complaint(error, self.line) from error
        if not beginning:
            raise InputError(f"{self.name}: the input has only blank lines; expected rows of contact sids.")
        self.line -= len(beginning)
        self._lines_before = self.line
        lines: Iterator[str] = chain(beginning, text)
        self._reader = csv.reader(self._kept(lines) if keep_text else lines, delimiter=self.delimiter, strict=True)
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
                raise self._complaint(error, self._lines_before + self._reader.line_num) from error
            self._taken = []
            self.line = self._lines_before + self._reader.line_num
            filled = [record for record in records if record]
            if filled or not records:
                return filled

    def _progress(self) -> int:
        return self.line + len(self._taken)

    def _first_lines(self, text: io.TextIOWrapper) -> list[str]:
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

    def _kept(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            self._text_lines.append(line)
            yield line

    def _complaint(self, error: Exception, last: int) -> ImporterError:
        """Say for people why no further record can be read; `last` is the last line that could be read."""
        begin = self.line + 1
        match error:
            case UnicodeDecodeError():
                before = error.object[: error.start].decode(error.encoding, "replace")
                where = f"line {last + 1 + len(_LINE_END.findall(before))}"
                byte = f"0x{error.object[error.start]:02x}"
                what = f"the byte {byte} is not {self._encoding}. Set input.encoding to what the file has."
            case UnicodeError():
                where, what = f"line {last + 1}", f"{error}. Set input.encoding to what the file has."
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


def _count_lines(record: list[str]) -> int:
    return 1 + sum(len(_LINE_END.findall(cell)) for cell in record)


def _csv_complaint(error: str, line: int) -> str:
    if "unexpected end of data" in error:
        return f"a quote in the row that begins in line {line} is never closed."
    if "field larger than field limit" in error:
        return f"a cell has more than {MAX_CELL_CHARACTERS:,} characters: a quote opened here is hardly ever closed."
    return f"not valid CSV: {error}."
