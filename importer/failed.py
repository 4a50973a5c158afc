"""The rows that are not in the list, as CSV: the input's own bytes and what became of them, to be fed back in."""

from __future__ import annotations

import codecs
import csv
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from importer.errors import InputError, RunDirectoryError, disk_error
from importer.model import IN_THE_LIST, ContactResult
from importer.past import Past, open_past
from importer.records import Records
from importer.recovery import REPORT
from importer.report import read_lines
from importer.state import Identity

COLUMNS = ("row", "outcome", "code", "reason")


def write_failed(directory: Path, location: str | None, output: Path | None) -> int:
    """Write the rows to a file, which is there whole or not at all, or to standard output. Gives their number.

    Raises ImporterError, or BrokenPipeError where whoever read has gone.
    """
    with open_past(directory, location) as past:
        if output is None:
            # A handle of its own: what cannot be written is not tried again at the exit.
            return _write_through(directory, past, sys.stdout.fileno(), Path("standard output"))
        if output.exists() and Path(past.input.location).exists() and output.samefile(past.input.location):
            raise RunDirectoryError(f"{output}: is the input of the run; choose another file with -o.")
        if output.exists() and not output.is_file():  # a pipe or a device is written to, not replaced
            return _write_through(directory, past, output, output)
        try:
            with NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}-", delete=False) as file:
                try:
                    rows = _write(directory, past, file.file)
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(output)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise disk_error(error, output) from error
        return rows


def _write_through(directory: Path, past: Past, target: int | Path, name: Path) -> int:
    try:
        with open(target, "wb", closefd=isinstance(target, Path)) as file:
            return _write(directory, past, file)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise disk_error(error, name) from error


def _write(directory: Path, past: Past, out: IO[bytes]) -> int:
    identity = past.identity
    records = Records(
        past.input,
        encoding=identity.encoding,
        delimiter=identity.delimiter,
        column=identity.position + 1,
        keep_text=True,
    )
    encoder = codecs.getincrementalencoder(identity.encoding)()
    width = len(records.first)
    if identity.has_header:
        header = records.text
    else:
        header = identity.delimiter.join(_invented_names(width, identity.position)) + _line_end(records.text)
        records.put_back_first()
    mark = "\ufeff" if records.has_mark else ""
    out.write(encoder.encode(mark + _extended(header, 0, COLUMNS, identity)))
    count = 0
    for line, record, text in _not_in_list(directory, past, records):
        cell = record[identity.position].strip() if identity.position < len(record) else ""
        if line.contact_sid is not None and not cell.startswith(line.contact_sid):
            raise InputError(
                f"{past.input.name}: row {line.row:,} is not what was imported: it has {cell!r}, the report has "
                f"{line.contact_sid!r}. Name the input of the run."
            )
        cells = (str(line.row), line.outcome.value, str(line.code or ""), _reason(line))
        out.write(encoder.encode(_extended(text, width - len(record), cells, identity)))
        count += 1
    return count


def _not_in_list(directory: Path, past: Past, records: Records) -> Iterator[tuple[ContactResult, Sequence[str], str]]:
    """Yield the report's lines of contacts not in the list, in the input's order, each with its record and text."""
    row = 0
    remaining = iter(records)
    for done in past.history.done():
        try:
            lines = read_lines(directory / REPORT, done.report_start, done.report_end)
        except (OSError, ValueError) as error:
            raise RunDirectoryError(
                f"{directory / REPORT}: cannot be read: {error}. Look with: importer verify {directory}"
            ) from error
        wanted = {line.row: line for line in lines if line.outcome not in IN_THE_LIST}
        while row < done.last_row:
            record = next(remaining, None)
            if record is None:
                raise InputError(f"{past.input.name}: ends after row {row:,}; it is not the input of the run.")
            row += 1
            if (line := wanted.get(row)) is not None:
                yield line, record, records.text


def _extended(text: str, missing_cells: int, cells: Sequence[str], identity: Identity) -> str:
    """Add cells to a record as it stands in the input; a short one is filled up, so that they get their columns."""
    end = _line_end(text)
    added = io.StringIO()
    csv.writer(added, delimiter=identity.delimiter, lineterminator="").writerow(cells)
    filling = identity.delimiter * (max(0, missing_cells) + 1)
    # What the API said may hold characters that the input's encoding has not.
    encodable = added.getvalue().encode(identity.encoding, "replace").decode(identity.encoding)
    return text.removesuffix(end) + filling + encodable + (end or "\n")


def _line_end(text: str) -> str:
    return next((end for end in ("\r\n", "\n", "\r") if text.endswith(end)), "")


def _invented_names(width: int, position: int) -> list[str]:
    """Name the columns of an input without a header, so that what is written has one."""
    return ["contact_sid" if index == position else f"column_{index + 1}" for index in range(width)]


def _reason(line: ContactResult) -> str:
    if line.reason is not None:
        return line.reason.value
    if line.error is None:
        return ""
    words = [str(line.error.code) if line.error.code is not None else "", line.error.message or ""]
    reason = " ".join(word for word in words if word)
    # A spreadsheet would run it as a formula.
    return f"'{reason}" if reason.startswith(("=", "+", "-", "@", "\t", "\r")) else reason
