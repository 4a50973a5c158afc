"""The records of a CSV input, and where they cannot be read on: one clear error with its line.

Knows nothing of sids but that a header may name their column.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from itertools import chain, islice

from importer.errors import ImporterError, InputError, SettingsError
from importer.header import find_delimiter
from importer.inputs import DAMAGED_STREAM_ERRORS, MAX_LINE_BYTES, Input, LineTooLongError

_LINE_END = re.compile(r"\r\n|\r|\n")
_READ_ERRORS = (UnicodeError, LineTooLongError, csv.Error, OSError, *DAMAGED_STREAM_ERRORS)


class Records:
    """The records of one input in order, blank lines left out, read as they are asked for.

    The standard library's parser in strict mode: after an unclosed quote it complains, where others swallow the
    rest of the file.
    """

    def __init__(self, source: Input, *, encoding: str, delimiter: str | None, column: str | int) -> None:
        """Read the first record. `delimiter` None finds it, with the help of the `column` that is wanted.

        Raises InputError or SettingsError.
        """
        self.name = source.name
        self._line_num: Callable[[], int] = lambda: 0
        try:
            text = io.TextIOWrapper(source.stream(), encoding=_codec(encoding), newline="")
        except LookupError:
            raise SettingsError(f"input.encoding: Python knows no text encoding '{encoding}'.") from None
        beginning: list[str] = []
        try:
            for line in text:
                beginning.append(line)
                if line.strip("\r\n"):
                    break
        except _READ_ERRORS as error:
            raise self._complaint(error, 1) from error
        if not beginning or not beginning[-1].strip("\r\n"):
            raise InputError(f"{self.name}: the input has only blank lines; expected rows of contact sids.")
        self.delimiter = delimiter or find_delimiter(beginning[-1], column)
        csv.field_size_limit(MAX_LINE_BYTES)
        reader = csv.reader(chain(beginning, text), delimiter=self.delimiter, strict=True)
        self._line_num = lambda: reader.line_num
        self._reader: Iterator[list[str]] = reader
        self.first = self.take(len(beginning))[0]

    @property
    def line(self) -> int:
        """The line of the input up to which records were read, from 1."""
        return self._line_num()

    def put_back_first(self) -> None:
        """Let the first record be read again: it is no header."""
        self._reader = chain([self.first], self._reader)

    def take(self, count: int) -> list[list[str]]:
        """Read the next `count` records or fewer; an empty list is the end.

        Raises InputError where the input cannot be read on.
        """
        while True:
            line_before = self.line
            records: list[list[str]] = []
            try:
                records.extend(islice(self._reader, count))
            except _READ_ERRORS as error:
                # What was read before the error is still in `records`: it tells the line of the bad one.
                raise self._complaint(error, line_before + 1 + sum(map(_count_lines, records))) from error
            filled = [record for record in records if record]
            if filled or not records:
                return filled

    def _complaint(self, error: Exception, line: int) -> ImporterError:
        """Say for people why no further record can be read; the failing record begins in `line`."""
        last = self.line
        match error:
            case UnicodeDecodeError():
                before = error.object[: error.start].decode(error.encoding, "replace")
                where = f"line {last + 1 + len(_LINE_END.findall(before))}"
                byte = f"0x{error.object[error.start]:02x}"
                what = f"the byte {byte} is not {error.encoding}. Set input.encoding to what the file has."
            case UnicodeError():
                where, what = f"line {last + 1}", f"{error}. Set input.encoding to what the file has."
            case LineTooLongError():
                where = f"line {last + 1}"
                what = f"the line is longer than {MAX_LINE_BYTES:,} bytes. Is this a CSV file?"
            case csv.Error():
                where = f"line {line}" if line >= last else f"lines {line} to {last}"
                what = f"{_csv_complaint(str(error), line)} Mend the file and start again."
            case OSError() if not isinstance(error, DAMAGED_STREAM_ERRORS):
                where, what = f"after line {last}", f"cannot be read on: {error.strerror or error}."
            case _:
                where = f"after line {last}"
                what = f"the compressed data is damaged or cut short ({error}). Get the file again."
        return InputError(f"{self.name}, {where}: {what}")


def _codec(encoding: str) -> str:
    """The same encoding, but without a byte order mark in the first cell."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding


def _count_lines(record: list[str]) -> int:
    return 1 + sum(len(_LINE_END.findall(cell)) for cell in record)


def _csv_complaint(error: str, line: int) -> str:
    if "unexpected end of data" in error:
        return f"a quote that is opened in line {line} is never closed."
    if "field larger than field limit" in error:
        return f"a cell has more than {MAX_LINE_BYTES:,} characters: a quote opened here is hardly ever closed."
    return f"not valid CSV: {error}."
